"""The stack as `sam deploy` makes it, on an emulator of AWS that runs functions, schedules and queue mappings.

One story: the stack comes up from template.yaml, the bootstrap command of its outputs makes the first organization,
an instance is made through the deployed HTTP API, the schedule fires the dispatcher, the queue's mapping feeds the
poller, and a signed event arrives at a callback. Then the stack is upgraded in place and the next change arrives.
What was deployed is compared with what the template means, as the emulator reports it.
"""

import argparse
import base64
import contextlib
import hashlib
import hmac
import http.server
import json
import os
import pathlib
import queue
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile

import boto3

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
FUNCTIONS = ["instances", "dispatcher", "poller"]
STACK = "pollux"
REGION = "eu-west-1"
KEY = "a customer's key"
BEGAN = time.monotonic()

# Seconds until something that the emulator does by itself must have happened: its schedule fires every minute, and
# a machine with much else to do is slow.
PATIENCE = 240


def tell(text):
    print(f"{time.monotonic() - BEGAN:7.1f} s  {text}", flush=True)


def run(*command, **options):
    """What a command says on standard output; what it says elsewhere is seen only when it fails."""
    done = subprocess.run(command, text=True, capture_output=True, cwd=ROOT, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def program(name, log, *command, **options):
    """A program beside the story, ended with it."""
    with open(log, "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def until(what, asks, patience=PATIENCE):
    """Asks until there is an answer."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        answer = asks()
        if answer:
            return answer
        time.sleep(0.25)
    raise AssertionError(f"{what}: not within {patience} s")


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=2).status
    except OSError:
        return None


def call(method, url, body=None, **headers):
    """Status and JSON of an answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", **headers}
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as answer:
        return answer.code, json.loads(answer.read() or b"null")


class Callback(http.server.BaseHTTPRequestHandler):
    """A customer's server: checks both signatures with nothing of ours and keeps what was right."""

    received = queue.Queue()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))

        def signature(*parts):
            return base64.b64encode(hmac.new(KEY.encode(), b"".join(parts), hashlib.sha256).digest()).decode()

        head = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode()
        signed = (
            self.headers["elements-webhook-signature"] == "sha256=" + signature(body)
            and self.headers["webhook-signature"] == "v1," + signature(head, body)
        )
        self.received.put((signed, json.loads(body)))
        self.send_response(200 if signed else 400)
        self.end_headers()

    def log_message(self, *_):
        pass


# ---------------------------------------------------------------- What is deployed


def build(built, work):
    """The template to deploy, with the functions' code beside it."""
    if not built:
        run("sam", "build", "--parameter-overrides", "Architecture=x86_64", "--build-dir", str(work / "build"))
        return work / "build/template.yaml"
    # What `sam build` would lay out, from the binaries that the tests were built with.
    template = (ROOT / "template.yaml").read_text()
    for name in FUNCTIONS:
        folder = work / "build" / name
        folder.mkdir(parents=True)
        run("strip", "-o", str(folder / "bootstrap"), str(TARGET / "debug" / name))
        (folder / "bootstrap").chmod(0o755)
        template, count = re.subn(rf"CodeUri: functions/{name}\b", f"CodeUri: {name}", template)
        assert count == 1, name
    (work / "build/template.yaml").write_text(template)
    return work / "build/template.yaml"


def deploy(template, **parameters):
    # CloudFormation makes a number of a Number parameter. The emulator keeps a text, which its own mappings then
    # cannot compare: it gets the number itself.
    text = template.read_text()
    for name in ["PollConcurrency", "DeliveryConcurrency"]:
        number = parameters.get(name, 20)
        text, count = re.subn(rf"MaximumConcurrency:\s*(!Ref|Ref:) {name}\b", f"MaximumConcurrency: {number}", text)
        assert count == 1, name
    template = template.with_name("for-the-emulator.yaml")
    template.write_text(text)
    overrides = [f"{name}={value}" for name, value in parameters.items()]
    run(
        *["sam", "deploy", "--template-file", str(template), "--stack-name", STACK, "--region", REGION],
        *["--capabilities", "CAPABILITY_IAM", "--resolve-s3", "--no-confirm-changeset", "--no-progressbar"],
        *["--parameter-overrides", *overrides],
    )


class Stack:
    """What the emulator says of the stack."""

    def __init__(self):
        self.cloud = boto3.client("cloudformation")
        resources = self.cloud.describe_stack_resources(StackName=STACK)["StackResources"]
        self.ids = {it["LogicalResourceId"]: it["PhysicalResourceId"] for it in resources}
        self.types = {it["LogicalResourceId"]: it["ResourceType"] for it in resources}
        described = self.cloud.describe_stacks(StackName=STACK)["Stacks"][0]
        self.status = described["StackStatus"]
        self.outputs = {it["OutputKey"]: it["OutputValue"] for it in described["Outputs"]}

    def of_type(self, kind):
        return sorted(name for name, of in self.types.items() if of == kind)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--built", action="store_true", help="deploy target/debug in place of what `sam build` makes")
    parser.add_argument("--keep", action="store_true", help="keep the working directory, its logs included")
    arguments = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="pollux-deploy-"))
    try:
        with contextlib.ExitStack() as beside:
            tell_the_story(arguments.built, work, beside)
    except BaseException:
        for log in sorted(work.glob("*.log")):
            print(f"---- the end of {log}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-40:]))
        raise
    finally:
        if not arguments.keep:
            shutil.rmtree(work)


def tell_the_story(built, work, beside):
    os.environ.update(
        AWS_DEFAULT_REGION=REGION, AWS_REGION=REGION, AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test",
        SAM_CLI_TELEMETRY="0",
    )
    template = build(built, work)
    for name in FUNCTIONS:
        folder = work / "build"
        [binary] = [*folder.glob(f"{name}/bootstrap"), *folder.glob(f"{name.title()}Function/bootstrap")]
        tell(f"{name}: {binary.stat().st_size / 1e6:.1f} MB, {zipped(binary) / 1e6:.1f} MB zipped")

    # The emulator, on a port of its own, its functions call it back there.
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    os.environ["AWS_ENDPOINT_URL"] = endpoint
    cloud = dict(os.environ, GATEWAY_PORT=str(port), BIND_HOST="127.0.0.1", MINISTACK_REGION=REGION)
    cloud["IOT_MTLS_ENABLED"] = "0"  # It would want a port of its own.
    cloud["PATH"] = os.defpath  # No Docker for it, should there be one.
    beside.enter_context(program("ministack", work / "ministack.log", os.environ["MINISTACK"], env=cloud, cwd=work))
    until("the emulator answers", lambda: answers(f"{endpoint}/_ministack/health"))
    tell("MiniStack answers")

    # The vendor and the customer.
    data = work / "sandbox"
    pollux = str(TARGET / "debug/pollux")
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    serve = [pollux, "serve", "--addr", "127.0.0.1:0", "--data", str(data)]
    beside.enter_context(program("sandbox", work / "sandbox.log", *serve, env=plain))
    until("the sandbox answers", (data / "credentials.json").exists)
    vendor = json.loads((data / "credentials.json").read_text())["url"]
    until("the sandbox answers", lambda: answers(f"{vendor}/healthz"))
    callback = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Callback)
    threading.Thread(target=callback.serve_forever, daemon=True).start()

    parameters = dict(Architecture="x86_64", SandboxUrl=f"{vendor}/sandbox", DeletionProtection="false")
    deploy(template, **parameters)
    stack = Stack()
    assert stack.status == "CREATE_COMPLETE", stack.status
    tell(f"sam deploy made {len(stack.ids)} resources")
    check_shapes(stack, poll_concurrency=20)
    tell("tables, queues, mappings, schedule, policies, logs and alarms are as the template has them")

    # The bootstrap command as the stack's outputs print it.
    environment = dict(os.environ, PATH=f"{TARGET / 'debug'}:{os.environ['PATH']}")
    command = f"{stack.outputs['BootstrapCommand']} --json"
    secrets = json.loads(run("sh", "-c", command, env=environment))
    authorization = f"User {secrets['userSecret']}, Organization {secrets['organizationSecret']}"
    tell("the bootstrap command made an organization and its user")

    # The API's address at the emulator; on AWS it is the output ApiUrl.
    api = f"{endpoint}/_aws/execute-api/{stack.outputs['ApiId']}/$default/elements/api-v2"
    status, _ = call("GET", f"{api}/instances", authorization="User x, Organization y")
    assert status == 401, status
    customer = f"http://127.0.0.1:{callback.server_port}/events"
    status, instance = call("POST", f"{api}/instances", square(customer), authorization=authorization)
    assert status == 200, (status, instance)
    tell(f"instance {instance['id']} was made through the deployed API")

    def change():
        status, made = call("POST", f"{vendor}/sandbox/control/square/timecards", {})
        assert status in (200, 201), (status, made)
        began = time.monotonic()
        signed, notification = Callback.received.get(timeout=PATIENCE)
        assert signed, "a signature is wrong"
        [event] = notification["message"]["events"]
        assert notification["message"]["instanceId"] == instance["id"], notification
        assert (event["eventType"], event["objectId"]) == ("CREATED", made["id"]), (event, made)
        tell(f"{made['id']} was created at the vendor; its signed event arrived after {time.monotonic() - began:.0f} s")

    change()

    # An upgrade in place: a changed parameter, and the same code.
    deploy(template, **parameters, PollConcurrency="30", LogRetentionDays="14")
    upgraded = Stack()
    assert upgraded.status == "UPDATE_COMPLETE", upgraded.status
    assert upgraded.ids == stack.ids, "a resource was replaced"
    check_shapes(upgraded, poll_concurrency=30, retention=14)
    tell("sam deploy upgraded the stack in place")
    change()
    status, coverage = call("GET", f"{api}/instances/{instance['id']}/coverage", authorization=authorization)
    assert status == 200, coverage
    assert Callback.received.empty(), "something was delivered twice"

    for name in ["PollDeadLetters", "DeliveryDeadLetters"]:
        attributes = boto3.client("sqs").get_queue_attributes(QueueUrl=upgraded.ids[name], AttributeNames=["All"])
        assert attributes["Attributes"]["ApproximateNumberOfMessages"] == "0", f"{name} are not empty"
    check_logs(upgraded, [secrets["userSecret"], secrets["organizationSecret"], instance["token"], KEY])
    tell("both events arrived once, the dead letters are empty and the logs are JSON")


def square(callback):
    """The body of POST /instances: a vendor account whose timesheets are polled every minute."""
    date = "yyyy-MM-dd'T'HH:mm:ssXXX"
    return {
        "element": {"key": "square"},
        "name": "deployed",
        "providerData": {"code": "sandbox-code-main"},
        "configuration": {
            "oauth.callback.url": "https://example.com/callback",
            "oauth.api.key": "key",
            "oauth.api.secret": "secret",
            "event.notification.enabled": True,
            "event.notification.callback.url": callback,
            "event.notification.signature.key": KEY,
            "event.poller.refresh_interval": "1",
            "event.poller.configuration": {
                "timesheets": {
                    "url": "/hubs/employee/timesheets?where=begin_updated_at='${gmtDate:" + date + "}'",
                    "idField": "id",
                    "datesConfiguration": {
                        **{"updatedDateField": "updated_at", "updatedDateFormat": date},
                        **{"createdDateField": "created_at", "createdDateFormat": date},
                    },
                }
            },
        },
    }


# ---------------------------------------------------------------- What the emulator says of it


def check_shapes(stack, poll_concurrency, retention=30):
    """The deployed shapes whose breach nobody would notice until something is lost."""
    table = boto3.client("dynamodb")
    name = stack.ids["Table"]
    described = table.describe_table(TableName=name)["Table"]
    keys = [(key["AttributeName"], key["KeyType"]) for key in described["KeySchema"]]
    assert keys == [("pk", "HASH"), ("sk", "RANGE")], keys
    assert described["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST", described
    assert not described.get("GlobalSecondaryIndexes"), "an index would be paid for with every write"
    # The emulator's CloudFormation leaves out a table's encryption, time to live and point-in-time recovery; that the
    # template asks for them is a test of its own (tests/it/template.rs).

    sqs = boto3.client("sqs")

    def attributes(queue):
        return sqs.get_queue_attributes(QueueUrl=stack.ids[queue], AttributeNames=["All"])["Attributes"]

    arns = {}
    for queue, dead in [("PollQueue", "PollDeadLetters"), ("DeliveryQueue", "DeliveryDeadLetters")]:
        of = attributes(queue)
        arns[of["QueueArn"]] = queue
        redrive = json.loads(of["RedrivePolicy"])
        assert redrive["deadLetterTargetArn"] == attributes(dead)["QueueArn"], of
        assert int(redrive["maxReceiveCount"]) == 5 and of["VisibilityTimeout"] == "360", of
        assert attributes(dead)["MessageRetentionPeriod"] == str(14 * 24 * 3600)
        assert of["SqsManagedSseEnabled"] == "true" == attributes(dead)["SqsManagedSseEnabled"], of

    functions = boto3.client("lambda")
    mappings = functions.list_event_source_mappings(FunctionName=stack.ids["PollerFunction"])["EventSourceMappings"]
    fed = {arns[mapping["EventSourceArn"]]: mapping for mapping in mappings}
    assert sorted(fed) == ["DeliveryQueue", "PollQueue"], mappings
    for mapping in mappings:
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"], mapping
        assert mapping["State"] == "Enabled", mapping
    assert (fed["PollQueue"]["BatchSize"], fed["DeliveryQueue"]["BatchSize"]) == (20, 10), fed
    assert fed["PollQueue"]["ScalingConfig"]["MaximumConcurrency"] == poll_concurrency, fed

    [rule] = stack.of_type("AWS::Events::Rule")
    events = boto3.client("events")
    rule = events.describe_rule(Name=stack.ids[rule])
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(1 minute)", "ENABLED"), rule
    [target] = events.list_targets_by_rule(Rule=rule["Name"])["Targets"]
    assert target["Arn"].endswith(f":function:{stack.ids['DispatcherFunction']}"), target

    names = [f"{name.title()}Function" for name in FUNCTIONS]
    assert stack.of_type("AWS::Lambda::Function") == sorted(names)
    logs = boto3.client("logs")
    for name in names:
        of = functions.get_function_configuration(FunctionName=stack.ids[name])
        assert (of["Runtime"], of["Architectures"]) == ("provided.al2023", ["x86_64"]), of
        group = stack.ids[name.replace("Function", "Log")]
        assert of["LoggingConfig"]["LogGroup"] == group, of
        [group] = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
        assert group["retentionInDays"] == retention, group
        check_policies(stack, name)

    key = boto3.client("kms")
    assert key.get_key_rotation_status(KeyId=stack.ids["Key"])["KeyRotationEnabled"]
    alarms = boto3.client("cloudwatch").describe_alarms()["MetricAlarms"]
    assert len(alarms) == len(stack.of_type("AWS::CloudWatch::Alarm")) > 10, len(alarms)


def check_policies(stack, name):
    """A function's role may do what the template lists, to resources by name; only its logs come from a managed policy."""
    iam = boto3.client("iam")
    role = stack.ids[f"{name}Role"]
    managed = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
    allowed = {"AWSLambdaBasicExecutionRole", "AWSLambdaSQSQueueExecutionRole"}
    assert {policy["PolicyName"] for policy in managed} <= allowed, managed
    own = iam.list_role_policies(RoleName=role)["PolicyNames"]
    assert own, f"{name} may do nothing"
    for policy in own:
        document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        for statement in document["Statement"]:
            for field in ["Action", "Resource"]:
                values = statement[field] if isinstance(statement[field], list) else [statement[field]]
                assert values and not any("*" in value for value in values), (name, statement)


def check_logs(stack, secrets):
    """Every line that a function wrote is JSON with the function's own fields, and none holds a secret."""
    logs = boto3.client("logs")
    for name in FUNCTIONS:
        events = logs.filter_log_events(logGroupName=stack.ids[f"{name.title()}Log"])["events"]
        lines = [event["message"].strip() for event in events]
        own = [line for line in lines if not line.startswith(("START ", "END ", "REPORT "))]
        assert own, f"{name} said nothing"
        for line in own:
            assert isinstance(json.loads(line), dict), line
            assert not any(secret in line for secret in secrets), f"{name} wrote a secret to its log"


def zipped(binary):
    with tempfile.TemporaryFile() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(binary, "bootstrap")
        return file.tell()


if __name__ == "__main__":
    main()
