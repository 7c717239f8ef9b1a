"""What the property-based tester cannot know from the document: who calls, and things that exist.

Two instances are made: `steady`, which stays as it is and has events, and `spare`, which calls that change things are
turned to and which is made again whenever it is gone. Most generated calls get ids that exist, so that the handlers are
reached; the rest keep what was drawn. Calls that are meant to be wrong are never touched.
"""

import json
import os
import urllib.error
import urllib.request
import zlib

import schemathesis

URL = os.environ["POLLUX_URL"]
SECRETS = os.environ["POLLUX_SECRETS"]

SQUARE = {
    "element": {"key": "square"},
    "providerData": {"code": "sandbox-code-openapi"},
    "configuration": {
        "oauth.callback.url": f"{URL}/callback",
        "oauth.api.key": "sandbox-key",
        "oauth.api.secret": "sandbox-secret",
        "event.notification.enabled": True,
        "event.notification.callback.url": f"{URL}/inbox/openapi",
        "event.notification.signature.key": "key",
        "event.poller.refresh_interval": "60",
        "event.poller.configuration": {
            "timesheets": {
                "url": "/hubs/employee/timesheets?where=begin_updated_at='${gmtDate:yyyy-MM-dd'T'HH:mm:ssXXX}'",
                "idField": "id",
                "datesConfiguration": {
                    "updatedDateField": "updated_at",
                    "updatedDateFormat": "yyyy-MM-dd'T'HH:mm:ssXXX",
                    "createdDateField": "created_at",
                    "createdDateFormat": "yyyy-MM-dd'T'HH:mm:ssXXX",
                },
            }
        },
    },
    "tags": ["openapi"],
    "name": "For the tester",
}


def call(method, path, body=None, base="/elements/api-v2"):
    """One call as the first user; the answer's JSON."""
    request = urllib.request.Request(URL + base + path, method=method)
    request.add_header("Authorization", SECRETS)
    request.add_header("Content-Type", "application/json")
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(request, data, timeout=30) as answer:
        return json.loads(answer.read() or b"null")


class Things:
    """What exists, made when it is first needed."""

    def __init__(self):
        self.kept = None
        self.changed = None

    def steady(self):
        if self.kept is None:
            made = call("POST", "/instances", SQUARE)
            record = call("POST", "/sandbox/control/square/timecards?account=openapi", {}, base="")
            call("POST", f"/instances/{made['id']}/poll")
            delivery = call("GET", f"/instances/{made['id']}/deliveries")[0]
            self.kept = {
                "id": made["id"],
                "token": made["token"],
                "delivery": delivery["id"],
                "event": delivery["id"],
                "notification": delivery["notificationId"],
                "record": record.get("id") or delivery["events"][0]["objectId"],
                "resource": "timesheets",
                "object": "timesheets",
                "item": "event.poller.refresh_interval",
                "element": "square",
                "hub": "employee",
                "operation": "getTimesheets",
            }
        return self.kept

    def spare(self):
        if self.changed is not None:
            try:
                # Its token may have been rotated.
                self.changed["token"] = call("GET", f"/instances/{self.changed['id']}")["token"]
            except urllib.error.HTTPError:
                self.changed = None
        if self.changed is None:
            made = call("POST", "/instances", SQUARE)
            self.changed = {**self.steady(), "id": made["id"], "token": made["token"]}
        return self.changed

    def of(self, operation):
        """Reading and sending again are done to the one, changing to the other."""
        changes = operation.method.lower() != "get" and "/deliveries" not in operation.path
        return self.spare() if changes else self.steady()


THINGS = Things()


def wants_token(operation):
    return [set(one) for one in operation.definition.raw.get("security", [])] == [{"element"}]


@schemathesis.auth(refresh_interval=None)
class Caller:
    """The first user; with an instance's token where the call is about the instance of the token."""

    def get(self, case, context):
        if wants_token(case.operation):
            return f"{SECRETS}, Element {THINGS.of(case.operation)['token']}"
        return SECRETS

    def set(self, case, data, context):
        case.headers["Authorization"] = data


def drawn(case):
    """A number that follows from what was drawn, so that a repeated case is the same case."""
    return zlib.crc32(repr((case.path_parameters, case.query, case.body)).encode("utf-8", "surrogatepass"))


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    chance = drawn(case)
    if case.path_parameters and chance % 4:
        there = THINGS.of(case.operation)
        for name in case.path_parameters:
            # A misprint of a name is as good a test as none at all.
            if name in there:
                case.path_parameters[name] = there[name]
    if case.operation.definition.raw.get("operationId") in ("createInstance", "rehearseNewInstance") and chance % 8 == 1:
        case.body = SQUARE
