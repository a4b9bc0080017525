"""The image classification app on `--stack aws`, its YAML unchanged: S3, SQS and IAM are moto's, Pulumi's CLI is stood
in for. Each part runs as the identity that `apply` made for it, and AWS refuses what its policy does not allow."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx2
import pytest
from moto import settings
from moto.iam.access_control import IAMRequestBase

from tests.aws_permissions import ACTIONS, allows, needed
from tests.harness import ROOT, Running, example, platform, wait_for
from tests.pictures import picture
from tests.stand_ins import moto, pulumi_environment

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("images-aws")]  # they share one run

REGION = "us-east-1"
RECORDER = Path(__file__).parent.parent / "stand_ins/recorder"
"""A folder with a `sitecustomize` that notes every call of boto3."""


class App:
    """The example on AWS: applied, then each part with the keys of its own identity."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.folder = example(folder)
        self.endpoint = endpoint
        self.calls = folder / "calls.jsonl"
        self.variables = {**pulumi_environment(folder / "pulumi", endpoint), "AWS_DEFAULT_REGION": REGION}
        del self.variables["PULUMI_BACKEND_URL"]
        applied = self.command("apply", "--yes")
        assert applied.returncode == 0, applied.stdout + applied.stderr
        self.tree = applied.stdout
        self.parts: list[Running] = []

    def command(self, *arguments: str) -> Any:
        return platform(self.folder, *arguments, "--stack", "aws", **self.variables)

    def client(self, service: str) -> Any:
        return boto3.client(
            service, region_name=REGION, endpoint_url=self.endpoint, aws_access_key_id="AKIA", aws_secret_access_key="x"
        )

    def policy(self, identity: str) -> list[dict[str, Any]]:
        role = f"image-classification-aws-{identity}"
        iam = self.client("iam")
        (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
        document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        return list(document["Statement"])

    def rows(self, table: str) -> list[dict[str, Any]]:
        found = self.command("query", table, "--json")
        assert found.returncode == 0, found.stderr
        return list(json.loads(found.stdout))


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with moto() as endpoint:
        yield App(tmp_path_factory.mktemp("images-aws"), endpoint)


def test_apply_prints_the_walkthrough_s_tree(app: App) -> None:
    assert app.tree.startswith("Primitives to create:\n├── S3Bucket\n│   └── s3://image-classification-aws-images\n")
    assert "S3FileChangeStream" in app.tree
    assert "nothing to do" in app.command("apply", "--yes").stderr


def test_from_the_page_through_s3_and_sqs_to_the_page(app: App) -> None:
    run = Running(app.folder, "--stack", "aws", **app.variables)
    try:
        run.ready()
        upload(run.url, "red.png")
        wait_for(lambda: [r["image_name"] for r in app.rows("classifications")] == ["red.png"])
        assert b"red.png" in run.get("/image-upload-results")
        app.client("s3").put_object(
            Bucket="image-classification-aws-images", Key="by hand/blue picture.png", Body=picture("blue")
        )
        wait_for(lambda: len(app.rows("classifications")) == 2)
        paths = {r["image_path"] for r in app.rows("classifications")}
        assert "by hand/blue picture.png" in paths
        assert run.stop() < 15
    finally:
        run.end()


def keys_of(app: App, identity: str) -> dict[str, str]:
    """The keys of an identity's role, as a task or a pod gets them."""
    role = app.client("iam").get_role(RoleName=f"image-classification-aws-{identity}")["Role"]["Arn"]
    given = app.client("sts").assume_role(RoleArn=role, RoleSessionName=identity)["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": given["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": given["SecretAccessKey"],
        "AWS_SESSION_TOKEN": given["SessionToken"],
    }


@contextlib.contextmanager
def parts(app: App) -> Iterator[tuple[Running, dict[str, Path]]]:
    """Gateway and worker, each as its identity, on one Redis; the gateway, and each one's recorded calls."""
    calls = {identity: app.folder / f"{identity}.jsonl" for identity in ("routes", "consumer-classify-image")}
    keys = {identity: keys_of(app, identity) for identity in calls}
    with contextlib.ExitStack() as ends:
        ends.enter_context(enforced())
        for identity, command in (("consumer-classify-image", ["worker"]), ("routes", ["gateway", "--port", "0"])):
            path = os.pathsep.join((str(RECORDER), str(ROOT / "platform")))
            recorded = {"PYTHONPATH": path, "RECORD_CALLS": str(calls[identity])}
            variables = {**app.variables, **keys[identity], **recorded}
            part = Running(app.folder, "--stack", "aws", command=command, **variables)
            ends.callback(part.end)
            part.ready()
        yield part, calls


def test_each_part_does_only_what_its_policy_allows_and_aws_refuses_the_rest(app: App) -> None:
    with parts(app) as (gateway, calls):
        upload(gateway.url, "green.png")
        wait_for(lambda: "green.png" in {r["image_name"] for r in app.rows("classifications")})
    for identity, path in calls.items():
        found = {needed(json.loads(line)) for line in path.read_text().splitlines()}
        statements = app.policy(identity)
        assert found, f"{identity} called nothing"
        for action, arn in found:
            assert allows(statements, action, arn), f"{identity} did {action} on {arn}, which its policy leaves out"


def test_without_a_permission_the_app_says_which_one_it_lacks(app: App) -> None:
    role = "image-classification-aws-routes"
    iam = app.client("iam")
    (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    whole = app.policy("routes")
    without = [{**s, "Action": [a for a in s["Action"] if a != "s3:PutObject"]} for s in whole]
    iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=document(without))
    try:
        with parts(app) as (gateway, _):
            files = {"image_file": ("red.png", picture("red"))}
            answer = httpx2.post(f"{gateway.url}/image-upload", files=files, timeout=60)
            assert answer.status_code == 503
            gateway.wait_for_line(r"s3:PutObject is not allowed")
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=document(whole))


def document(statements: list[dict[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@contextlib.contextmanager
def enforced() -> Iterator[None]:
    """Every call is held against the policies of who makes it. IAM knows no batches: moto does."""

    def check(self: Any, resource: str) -> None:
        service, _, operation = self._action.partition(":")
        self._action = ACTIONS.get((service, operation), self._action)
        permitted(self, resource)

    permitted = IAMRequestBase.check_action_permitted
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(IAMRequestBase, "check_action_permitted", check)
        patched.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
        yield


def upload(url: str, name: str) -> None:
    files = {"image_file": (name, picture(name.partition(".")[0]))}
    answer = httpx2.post(f"{url}/image-upload", files=files, timeout=60)
    assert answer.status_code == 200, answer.text


def test_what_sqs_itself_moved_away_is_a_dead_letter_like_the_others(app: App) -> None:
    outputs = json.loads((app.folder / ".buildflow/aws/state.json").read_text())["resources"]["uploads"]["outputs"]
    sqs = app.client("sqs")
    event = {"file_path": "lost.png"}
    sqs.send_message(QueueUrl=outputs["redrive_url"], MessageBody=json.dumps(event))
    listed = app.command("dlq", "ls", "classify_image", "--all", "--json")
    assert listed.returncode == 0, listed.stderr
    (letter,) = (x for x in json.loads(listed.stdout) if "lost.png" in x["payload"])
    assert letter["error"] == "moved by SQS, reason unknown"
    waiting = "ApproximateNumberOfMessages"
    counted = sqs.get_queue_attributes(QueueUrl=outputs["redrive_url"], AttributeNames=[waiting])
    assert counted["Attributes"][waiting] == "0", "it is in one place"
    again = app.command("dlq", "replay", "classify_image", letter["id"])
    assert again.returncode == 0, again.stderr
    taken = sqs.receive_message(QueueUrl=outputs["url"], MaxNumberOfMessages=10)["Messages"]
    assert [json.loads(m["Body"]) for m in taken if "lost.png" in m["Body"]] == [event]
