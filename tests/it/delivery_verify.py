"""A callback that knows nothing of our code: the reference verifier of Standard Webhooks decides what it takes.

Arguments: the keys in use, the newest first, as text. Prints its port, then answers each request 200 with what was
verified by which key, or 400 with what is wrong.
"""

import base64
import hashlib
import hmac
import http.server
import json
import sys

from standardwebhooks import Webhook

KEYS = sys.argv[1:]


def secret_of(key):
    """What a receiver gives to the verifier: a key without the prefix is the bytes that were typed."""
    return key if key.startswith("whsec_") else "whsec_" + base64.b64encode(key.encode()).decode()


class Callback(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            for key in KEYS:
                Webhook(secret_of(key)).verify(body, dict(self.headers))
            mac = hmac.new(KEYS[0].encode(), body, hashlib.sha256).digest()
            expected = "sha256=" + base64.b64encode(mac).decode()
            assert self.headers["elements-webhook-signature"] == expected, "the Cloud Elements signature differs"
            assert self.headers["elements-webhook-id"] == self.headers["webhook-id"], "two ids"
            for wrong in ["whsec_" + base64.b64encode(b"of somebody else").decode()]:
                try:
                    Webhook(wrong).verify(body, dict(self.headers))
                except Exception:
                    continue
                raise AssertionError("a foreign key verifies")
            status, answer = 200, {"verified": len(KEYS), "format": content(self.headers["content-type"], body)}
        except Exception as error:
            status, answer = 400, {"problem": f"{type(error).__name__}: {error}"}
        answer = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def content(kind, body):
    """What a CloudEvents consumer reads: the media type says the mode, the required attributes are there."""
    parsed = json.loads(body)
    modes = {"application/cloudevents+json": [parsed], "application/cloudevents-batch+json": parsed}
    if kind not in modes:
        assert kind == "application/json" and parsed["message"]["events"], kind
        return "elements"
    assert isinstance(modes[kind], list)
    for event in modes[kind]:
        assert event["specversion"] == "1.0", event
        assert all(isinstance(event[name], str) and event[name] for name in ["id", "source", "type"]), event
        assert all(name == name.lower() and name.isalnum() for name in event), "attribute names"
    return f"{kind} {len(modes[kind])}"


server = http.server.HTTPServer(("127.0.0.1", 0), Callback)
print(server.server_port, flush=True)
server.serve_forever()
