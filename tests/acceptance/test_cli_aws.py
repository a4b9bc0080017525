"""plan, apply, refresh and destroy of a stack on AWS: the real Automation API drives Pulumi's CLI, which makes what is
declared in moto. It is the real CLI where one is on PATH, with the plugins of pulumi-aws and pulumi-random in its own
home, else its stand-in; the ids of the tests say which."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.harness import PLATFORM, environment, platform, project
from tests.stand_ins import REAL_PULUMI, Hold, forget, moto, pulumi_environment, real_pulumi_environment

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cli-aws")]  # they share one moto
stand_in_alone = pytest.mark.skipif(REAL_PULUMI is not None, reason="only the stand-in waits where a test wants it")

YAML = """
project: shop
stacks:
  aws:
    provider: aws
    aws: {region: eu-west-1, endpoint_url: "ENDPOINT", aws_access_key_id: AKIA, aws_secret_access_key: "${secret.KEY}"}
  other:
    provider: aws
    aws: {region: eu-west-1, endpoint_url: "ENDPOINT", aws_access_key_id: AKIA, aws_secret_access_key: "${secret.KEY}"}
primitives:
  files: {type: bucket}
  arrivals: {type: file_change_stream, bucket: files}
  orders: {type: queue, lease: 30s}
  done: {type: table, columns: {path: string}}
consumers:
  take: {source: arrivals, handler: app:take, sink: orders}
  store: {source: orders, handler: app:store, sink: done}
"""

APP = """
from buildflow.types import FileChangeEvent
def take(event: FileChangeEvent) -> dict:
    return {"path": event.file_path}
def store(order: dict) -> dict:
    return order
"""

TREE = """\
Primitives to create:
├── S3Bucket
│   └── s3://shop-aws-files
├── S3FileChangeStream
│   └── sqs://shop-aws-arrivals
├── SQSQueue
│   └── sqs://shop-aws-orders
└── DuckDBTable
    └── .buildflow/aws/tables.duckdb:done
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto() as url:
        yield url


class Stack:
    """A project with a stack on moto, and the commands on it."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.endpoint = endpoint
        self.folder = project(folder, YAML.replace("ENDPOINT", endpoint), app=APP)
        cli = (real_pulumi_environment if REAL_PULUMI else pulumi_environment)(folder / "pulumi")
        self.variables = {
            **cli,
            "KEY": "secret-of-the-test",
            "PULUMI_BACKEND_URL": "file:///none",
        }  # the stack says where

    def run(self, *arguments: str, stack: str = "aws", expect: int = 0, input: str = "", **more: str) -> Any:
        done = platform(self.folder, *arguments, "--stack", stack, input=input, **{**self.variables, **more})
        assert done.returncode == expect, f"{done.returncode}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        assert "secret-of-the-test" not in done.stdout + done.stderr
        return done

    def apply(self, *arguments: str, stack: str = "aws", expect: int = 0, **more: str) -> Any:
        return self.run("apply", "--yes", *arguments, stack=stack, expect=expect, **more)

    def start(self, *arguments: str, stdin: int | None = None, **more: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*PLATFORM, *arguments, "--stack", "aws"], cwd=self.folder, text=True, start_new_session=True, stdin=stdin,
            env=environment(**self.variables, **more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def edit(self, before: str, after: str) -> None:
        path = self.folder / "buildflow.yaml"
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))

    def client(self, service: str) -> Any:
        return boto3.client(
            service, region_name="eu-west-1", endpoint_url=self.endpoint, aws_access_key_id="AKIA",
            aws_secret_access_key="x",
        )  # fmt: skip

    def recorded(self, stack: str = "aws") -> dict[str, Any]:
        text = (self.folder / f".buildflow/{stack}/state.json").read_text()
        assert "secret-of-the-test" not in text
        return dict(json.loads(text)["resources"])

    def attributes(self, name: str) -> dict[str, str]:
        sqs = self.client("sqs")
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        return dict(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"])

    def buckets(self) -> list[str]:
        return [b["Name"] for b in self.client("s3").list_buckets()["Buckets"]]


@pytest.fixture(params=["pulumi" if REAL_PULUMI else "stand-in"])
def stack(tmp_path: Path, endpoint: str) -> Stack:
    forget(endpoint)
    # S3's control API puts the account before the host, which no IP address bears
    return Stack(tmp_path, endpoint.replace("127.0.0.1", "localhost") if REAL_PULUMI else endpoint)


# from nothing to nothing


def test_a_stack_from_nothing_to_nothing(stack: Stack) -> None:
    planned = stack.run("plan", "--exit-code", expect=3)
    assert planned.stdout.startswith(TREE)
    assert stack.buckets() == [], "a plan makes nothing"
    declined = stack.run("apply", input="n\n", expect=4)
    assert declined.stdout.startswith(TREE)
    assert "Would you like to apply these changes?" in declined.stderr
    assert stack.buckets() == []

    applied = stack.apply()
    for line in ("created S3Bucket s3://shop-aws-files", "created S3FileChangeStream sqs://shop-aws-arrivals",
                 "created SQSQueue sqs://shop-aws-orders", "created DuckDBTable"):  # fmt: skip
        assert applied.stderr.count(line) == 1, applied.stderr
    assert stack.buckets() == ["shop-aws-files"]
    assert stack.attributes("shop-aws-orders")["VisibilityTimeout"] == "30"
    told = stack.client("s3").get_bucket_notification_configuration(Bucket="shop-aws-files")
    assert [q["QueueArn"] for q in told["QueueConfigurations"]] == [stack.attributes("shop-aws-arrivals")["QueueArn"]]
    assert stack.recorded()["orders"]["outputs"]["url"]

    again = stack.apply()
    assert "nothing to do" in again.stderr
    assert again.stdout == ""
    assert "nothing to do" in stack.run("plan", "--exit-code").stderr

    destroyed = stack.run("destroy", "--yes")
    assert "Primitives to destroy:" in destroyed.stdout
    assert stack.buckets() == []
    assert stack.recorded() == {}
    assert "nothing to destroy" in stack.run("destroy", "--yes").stderr


def test_everything_bears_project_stack_and_tags_so_two_stacks_never_meet(stack: Stack) -> None:
    stack.apply()
    stack.apply(stack="other")
    assert sorted(stack.buckets()) == ["shop-aws-files", "shop-other-files"]
    tags = stack.client("s3").get_bucket_tagging(Bucket="shop-other-files")["TagSet"]
    assert {"Key": "buildflow:stack", "Value": "other"} in tags
    stack.run("destroy", "--yes", stack="other")
    assert stack.buckets() == ["shop-aws-files"]
    assert "nothing to do" in stack.apply().stderr


# edits


def test_an_edit_updates_in_place(stack: Stack) -> None:
    stack.apply()
    before = stack.attributes("shop-aws-orders")["QueueArn"]
    stack.edit("lease: 30s", "lease: 45s")
    planned = stack.run("plan", "--exit-code", expect=3)
    assert "Primitives to update:" in planned.stdout
    assert "visibilityTimeoutSeconds: 30 -> 45" in planned.stdout
    assert "DATA LOSS" not in planned.stdout
    data = json.loads(stack.run("plan", "--json").stdout)
    assert [(c["action"], c["key"]) for c in data["changes"]] == [("update", "orders")]
    stack.apply()
    assert stack.attributes("shop-aws-orders")["VisibilityTimeout"] == "45"
    assert stack.attributes("shop-aws-orders")["QueueArn"] == before
    assert stack.recorded()["orders"]["spec"]["lease"] == 45


def test_an_edit_that_replaces_says_what_would_be_lost(stack: Stack) -> None:
    stack.apply()
    stack.client("s3").put_object(Bucket="shop-aws-files", Key="a.txt", Body=b"x")
    stack.edit("files: {type: bucket}", "files: {type: bucket, force_destroy: true}")
    stack.apply()
    stack.edit("force_destroy: true}", "force_destroy: true, name: shop-elsewhere}")
    planned = stack.run("plan", "--exit-code", expect=3)
    assert "Primitives to replace:" in planned.stdout
    assert re.search(r"DATA LOSS: 1 object\b", planned.stdout)
    refused = stack.apply(expect=1)
    assert "would lose 1 object; pass --allow-data-loss" in refused.stderr
    assert stack.buckets() == ["shop-aws-files"]
    stack.apply("--allow-data-loss")
    assert stack.buckets() == ["shop-elsewhere"]
    assert stack.recorded()["files"]["outputs"]["name"] == "shop-elsewhere"


def test_a_bucket_that_holds_objects_is_replaced_only_by_the_switch_that_was_applied(stack: Stack) -> None:
    stack.apply()
    s3 = stack.client("s3")
    s3.put_object(Bucket="shop-aws-files", Key="a.txt", Body=b"x")
    for edited in ("name: shop-other}", "name: shop-other, force_destroy: true}"):
        stack.edit("files: {type: bucket}", f"files: {{type: bucket, {edited}")
        refused = stack.apply("--allow-data-loss", expect=1)
        assert 's3://shop-aws-files holds 1 object; set `force_destroy: true` on "files", apply that first, then ' \
            "rename it" in refused.stderr  # fmt: skip
        stack.edit(f"files: {{type: bucket, {edited}", "files: {type: bucket}")
    assert stack.buckets() == ["shop-aws-files"]
    assert s3.get_public_access_block(Bucket="shop-aws-files")["PublicAccessBlockConfiguration"]["BlockPublicAcls"]
    assert s3.get_bucket_notification_configuration(Bucket="shop-aws-files")["QueueConfigurations"]


def test_a_removed_primitive_is_deleted_and_its_loss_is_named(stack: Stack) -> None:
    stack.apply()
    sqs = stack.client("sqs")
    sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName="shop-aws-orders")["QueueUrl"], MessageBody="{}")
    stack.edit("  orders: {type: queue, lease: 30s}\n", "")
    stack.edit(", sink: orders}", "}")
    stack.edit("  store: {source: orders, handler: app:store, sink: done}\n", "")
    planned = stack.run("plan", "--exit-code", expect=3)
    assert "Primitives to destroy:" in planned.stdout
    assert "DATA LOSS: about 1 message" in planned.stdout
    assert "consumer store: removed" in planned.stdout
    assert "pass --allow-data-loss" in stack.apply(expect=1).stderr
    stack.apply("--allow-data-loss")
    assert "orders" not in stack.recorded()


def test_a_plan_shows_what_a_change_widens_and_narrows(stack: Stack) -> None:
    stack.apply()
    stack.edit("handler: app:take, sink: orders}", "handler: app:take}")
    planned = stack.run("plan", "--exit-code", expect=3).stdout
    assert "consumer-take may no longer sqs:SendMessage on orders" in planned
    assert "consumer take: arrivals -> app:take -> orders => arrivals -> app:take" in planned
    stack.apply()
    policies = stack.client("iam").list_role_policies(RoleName="shop-aws-consumer-take")["PolicyNames"]
    document = stack.client("iam").get_role_policy(RoleName="shop-aws-consumer-take", PolicyName=policies[0])
    assert "sqs:SendMessage" not in json.dumps(document["PolicyDocument"])
    assert "Permissions to change" not in stack.run("plan").stdout


def test_a_plan_in_a_file_is_refused_when_it_is_stale(stack: Stack) -> None:
    stack.run("plan", "--out", "first.plan")
    stack.run("plan", "--out", "second.plan")
    assert "secret-of-the-test" not in (stack.folder / "first.plan").read_text()
    done = platform(stack.folder, "apply", "first.plan", **stack.variables)
    assert done.returncode == 0, done.stderr
    stale = platform(stack.folder, "apply", "second.plan", **stack.variables)
    assert stale.returncode == 1
    assert "not any more what the plan was made for" in stale.stderr


def test_what_others_changed_since_it_was_shown_is_not_made(stack: Stack) -> None:
    share_the_state(stack)
    waiting = stack.start("apply", stdin=subprocess.PIPE)
    asked = read_until(waiting, "Would you like to apply these changes?")
    assert "s3://shop-aws-files" in asked
    other = another_machine(stack)
    assert platform(other, "apply", "--yes", "--stack", "aws", **stack.variables).returncode == 0
    said, _ = waiting.communicate("y\n", timeout=120)
    assert waiting.returncode == 1
    assert "changed this stack after its changes were shown; nothing was done" in said
    assert "run it again" in said
    assert "S3Bucket" not in stack.apply().stdout, "it shows what is left to do"


# what others did


def test_refresh_shows_drift_and_apply_brings_it_back(stack: Stack) -> None:
    stack.apply()
    sqs = stack.client("sqs")
    url = sqs.get_queue_url(QueueName="shop-aws-orders")["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "99"})
    drift = stack.run("refresh").stdout
    assert "SQSQueue sqs://shop-aws-orders" in drift
    assert "visibilityTimeoutSeconds: 30 -> 99" in drift
    assert "visibilityTimeoutSeconds: 99 -> 30" in stack.run("plan", "--exit-code", expect=3).stdout
    stack.apply()
    assert stack.attributes("shop-aws-orders")["VisibilityTimeout"] == "30"
    assert "no drift" in stack.run("refresh").stderr

    sqs.delete_queue(QueueUrl=url)
    found = json.loads(stack.run("refresh", "--json").stdout)["drift"]
    assert [(d["key"], d["gone"]) for d in found] == [("orders", True)]
    planned = stack.run("plan", "--exit-code", expect=3).stdout
    assert planned.startswith("Primitives to create:\n└── SQSQueue\n    └── sqs://shop-aws-orders\n"), planned
    assert "Primitives to update" not in planned
    assert "consumer-take may do the same as before, with what orders becomes: only the ARNs change" in planned
    assert "created SQSQueue sqs://shop-aws-orders" in stack.apply().stderr
    assert stack.attributes("shop-aws-orders")["VisibilityTimeout"] == "30"


def forget_this_machine(stack: Stack) -> None:
    """As another machine with the same project and the same `backend_url` has it."""
    shutil.rmtree(stack.folder / ".buildflow")


def share_the_state(stack: Stack) -> None:
    """Where all machines find it."""
    stack.edit("  other:", f"    backend_url: file://{stack.folder / 'shared'}\n  other:")


def another_machine(stack: Stack) -> Path:
    """The project's folder there, which shares the state."""
    copy = Path(f"{stack.folder}-copy")
    shutil.copytree(stack.folder, copy, ignore=shutil.ignore_patterns(".buildflow", "shared", "pulumi"))
    return copy


def read_until(process: "subprocess.Popen[str]", words: str) -> str:
    """All that a command says until it has said this."""
    assert process.stdout is not None
    said = ""
    while words not in said:
        character = process.stdout.read(1)
        assert character, f"it ended: {said}"
        said += character
    return said


def test_another_machine_adopts_what_there_is(stack: Stack) -> None:
    share_the_state(stack)
    stack.apply()
    arn = stack.recorded()["orders"]["outputs"]["arn"]
    forget_this_machine(stack)
    adopted = stack.apply()
    assert "S3Bucket" not in adopted.stdout, "only its DuckDB file is its own"
    assert stack.recorded()["orders"]["outputs"]["arn"] == arn
    assert "nothing to do" in stack.run("plan", "--exit-code").stderr


def test_another_machine_does_not_delete_what_it_does_not_know_without_a_word(stack: Stack) -> None:
    share_the_state(stack)
    stack.edit("  done:", "  more: {type: bucket}\n  done:")
    stack.apply()
    stack.client("s3").put_object(Bucket="shop-aws-more", Key="a.txt", Body=b"x")
    forget_this_machine(stack)
    stack.edit("  more: {type: bucket}\n", "")
    planned = stack.run("plan", "--exit-code", expect=3)
    assert "DATA LOSS: 1 object" in planned.stdout
    refused = stack.apply("--allow-data-loss", expect=1)
    assert 'holds 1 object; set `force_destroy: true` on "more", apply that first' in refused.stderr
    assert "shop-aws-more" in stack.buckets()
    assert stack.client("s3").get_public_access_block(Bucket="shop-aws-more")


def test_another_machine_looks_into_the_bucket_that_there_is(stack: Stack) -> None:
    share_the_state(stack)
    stack.apply()
    stack.client("s3").put_object(Bucket="shop-aws-files", Key="a.txt", Body=b"x")
    forget_this_machine(stack)
    stack.edit("files: {type: bucket}", "files: {type: bucket, name: shop-other, force_destroy: true}")
    refused = stack.apply("--allow-data-loss", expect=1).stderr
    assert "s3://shop-aws-files holds 1 object; set `force_destroy: true`" in refused
    assert "then rename it" in refused
    assert stack.buckets() == ["shop-aws-files"]


def test_a_role_that_somebody_widened_is_narrowed_again(stack: Stack) -> None:
    stack.apply()
    iam, role = stack.client("iam"), "shop-aws-consumer-take"
    (name,) = iam.list_role_policies(RoleName=role)["PolicyNames"]
    whole = json.dumps(iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"])
    wide = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(wide))
    assert "consumer-take" in stack.run("refresh").stdout
    planned = stack.run("plan", "--exit-code", expect=3).stdout
    assert "consumer-take may no longer * on *" in planned
    assert re.search(r"consumer-take may now .*sqs:SendMessage.* on arn:aws:sqs:\S+:shop-aws-orders", planned)
    stack.apply()
    assert json.dumps(iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]) == whole


def test_what_is_managed_is_not_let_go_by_deleting_it(stack: Stack) -> None:
    stack.apply()
    stack.edit("orders: {type: queue, lease: 30s}", "orders: {type: queue, lease: 30s, managed: false}")
    planned = stack.run("plan", "--exit-code", expect=3)
    assert "Primitives to replace:" in planned.stdout
    refused = stack.apply("--allow-data-loss", expect=1)
    assert "`managed: false` would delete it" in refused.stderr
    assert stack.attributes("shop-aws-orders")["VisibilityTimeout"] == "30"


def test_refresh_applies_nothing_that_was_only_declared(stack: Stack) -> None:
    stack.edit("files: {type: bucket}", "files: {type: bucket, deletion_protection: true}")
    stack.apply()
    stack.edit("deletion_protection: true", "deletion_protection: false")
    stack.run("refresh")
    assert "deletion_protection: true -> false" in stack.run("plan", "--exit-code", expect=3).stdout


# interruptions


@stand_in_alone
@pytest.mark.parametrize("type", ["aws:s3/bucket:Bucket", "aws:sqs/queue:Queue", "aws:iam/role:Role"])
def test_an_apply_that_was_killed_half_way_is_resumed(stack: Stack, type: str) -> None:
    hold = Hold("after", type)
    killed = stack.start("apply", "--yes", **hold.environment)
    hold.reached()
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    hold.release()
    resumed = stack.apply()
    assert "Changes applied" in resumed.stderr
    assert stack.buckets() == ["shop-aws-files"]
    assert "nothing to do" in stack.apply().stderr
    stack.run("destroy", "--yes")
    assert stack.buckets() == []
    assert stack.client("iam").list_roles()["Roles"] == []


@stand_in_alone
def test_what_a_killed_apply_had_begun_is_destroyed_too(stack: Stack) -> None:
    hold = Hold("after", "aws:s3/bucket:Bucket")
    killed = stack.start("apply", "--yes", **hold.environment)
    hold.reached()
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    hold.release()
    stack.run("destroy", "--yes")
    assert stack.buckets() == []


@stand_in_alone
def test_a_state_that_another_machine_holds_is_said(stack: Stack) -> None:
    share_the_state(stack)
    hold = Hold("before", "aws:sqs/queue:Queue")
    first = stack.start("apply", "--yes", **hold.environment)
    hold.reached()
    refused = platform(another_machine(stack), "apply", "--yes", "--stack", "aws", **stack.variables)
    hold.release()
    first.communicate(timeout=120)
    assert refused.returncode == 1
    assert re.search(r'the state of stack "aws" is locked: process \d+ on \S+ holds it', refused.stderr)
    assert "platform cancel" in refused.stderr
    assert first.returncode == 0


@stand_in_alone
def test_the_lock_of_a_container_with_the_same_name_is_not_broken(stack: Stack) -> None:
    """Its host is called as this one, and its process bears a number that none has here."""
    stack.apply()
    lock = stack.folder / ".buildflow/aws/pulumi/state/.pulumi/locks/organization/shop/aws/other.json"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    holder = {"pid": ended.pid, "username": "me", "hostname": socket.gethostname(), "timestamp": "2026-01-01T00:00:00Z"}
    lock.write_text(json.dumps(holder))
    stack.edit("lease: 30s", "lease: 45s")
    refused = stack.apply(expect=1)
    assert f"process {ended.pid} on {socket.gethostname()} holds it" in refused.stderr
    assert "platform cancel" in refused.stderr
    assert lock.exists()
    stack.run("cancel")
    stack.apply()
    assert stack.attributes("shop-aws-orders")["VisibilityTimeout"] == "45"


def test_a_secret_of_the_backend_is_in_no_file(stack: Stack) -> None:
    stack.edit("  other:", '    backend_url: "file://shared/${env.HUSH}"\n  other:')
    stack.apply(HUSH="secret-of-the-test")
    assert (stack.folder / "shared/secret-of-the-test/.pulumi").is_dir()
    places = (stack.folder / ".buildflow", stack.folder / "pulumi")
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    assert any(path.name == "Pulumi.yaml" for path in files)
    assert [path for path in files if b"secret-of-the-test" in path.read_bytes()] == []


# mistakes of the world


def test_no_pulumi_cli(stack: Stack) -> None:
    path = os.pathsep.join(p for p in stack.variables["PATH"].split(os.pathsep) if not (Path(p) / "pulumi").exists())
    planned = stack.run("plan", expect=1, PATH=path)
    assert planned.stdout == TREE.replace("to create", "declared")
    assert "Pulumi CLI" in planned.stderr
    assert "pulumi.com/docs/install" in planned.stderr


def test_no_passphrase_and_a_wrong_one(stack: Stack) -> None:
    del stack.variables["PULUMI_CONFIG_PASSPHRASE"]
    refused = stack.apply(expect=1)
    assert "passphrase" in refused.stderr
    assert "help: set PULUMI_CONFIG_PASSPHRASE" in refused.stderr
    (stack.folder / ".env").write_text("PULUMI_CONFIG_PASSPHRASE=right\n")
    stack.apply()
    (stack.folder / ".env").write_text("PULUMI_CONFIG_PASSPHRASE=wrong\n")
    stack.edit("lease: 30s", "lease: 45s")
    wrong = stack.apply(expect=1)
    assert "incorrect passphrase" in wrong.stderr
    assert "help: set PULUMI_CONFIG_PASSPHRASE to the passphrase that the stack was created with" in wrong.stderr
    assert stack.attributes("shop-aws-orders")["VisibilityTimeout"] == "30"


def test_a_name_that_is_taken(stack: Stack) -> None:
    stack.edit("files: {type: bucket}", "files: {type: bucket, name: taken-by-another}")
    theirs = boto3.client("s3", region_name="eu-west-1", endpoint_url=stack.endpoint,
                          aws_access_key_id="OTHER", aws_secret_access_key="x")  # fmt: skip
    theirs.create_bucket(Bucket="taken-by-another", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    refused = stack.apply(expect=1)
    assert 'S3Bucket "files": there is a bucket "taken-by-another" already, which no stack made' in refused.stderr
    assert "give the primitive another `name:`" in refused.stderr
    assert stack.buckets() == ["taken-by-another"]
    assert stack.client("sqs").list_queues().get("QueueUrls", []) == [], (
        "nothing is made before all is known to be free"
    )
    stack.edit(", name: taken-by-another", "")
    stack.apply()
    assert "shop-aws-files" in stack.buckets()


def test_a_queue_of_others_is_not_taken_from_them(stack: Stack) -> None:
    """SQS would give it to who creates it again."""
    sqs = stack.client("sqs")
    theirs = sqs.create_queue(QueueName="shop-aws-orders")["QueueUrl"]
    before = stack.attributes("shop-aws-orders")
    for command in (("plan",), ("apply", "--yes")):
        refused = stack.run(*command, expect=1)
        assert 'SQSQueue "orders": there is a queue "shop-aws-orders" already, which no stack made' in refused.stderr
        assert "help: give the primitive another `name:`" in refused.stderr
    assert stack.buckets() == [], "nothing is made before all is known to be free"
    assert stack.attributes("shop-aws-orders") == before

    sqs.tag_queue(QueueUrl=theirs, Tags={"buildflow:project": "shop-aws", "buildflow:stack": "eu"})
    refused = stack.apply(expect=1)
    assert 'there is a queue "shop-aws-orders" already, of the stack "eu" of "shop-aws"' in refused.stderr
    stack.edit("{type: queue,", "{type: queue, name: shop-orders,")
    stack.apply()
    stack.run("destroy", "--yes")
    assert stack.attributes("shop-aws-orders") == before, "theirs"


def test_a_bucket_that_is_not_empty_is_not_destroyed(stack: Stack) -> None:
    stack.apply()
    stack.client("s3").put_object(Bucket="shop-aws-files", Key="a.txt", Body=b"x")
    refused = stack.run("destroy", "--yes", expect=1)
    assert "holds 1 object; set `force_destroy: true`" in refused.stderr
    assert stack.buckets() == ["shop-aws-files"]
    assert set(stack.recorded()) == {"files", "arrivals", "orders", "done"}


def test_what_is_protected_stays(stack: Stack) -> None:
    stack.edit("files: {type: bucket}", "files: {type: bucket, deletion_protection: true}")
    stack.apply()
    refused = stack.run("destroy", "--yes", expect=1)
    assert "`deletion_protection: true`; set it to false" in refused.stderr
    stack.edit("deletion_protection: true", "deletion_protection: false")
    stack.apply()
    stack.run("destroy", "--yes")


def test_what_is_not_managed_has_to_exist(stack: Stack) -> None:
    stack.edit("files: {type: bucket}", "files: {type: bucket, managed: false, name: their-bucket}")
    refused = stack.apply(expect=1)
    assert "is not managed here, and does not exist" in refused.stderr
    stack.client("s3").create_bucket(
        Bucket="their-bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    assert "found S3Bucket s3://their-bucket" in stack.apply().stderr
    assert "let go of S3Bucket s3://their-bucket" in stack.run("destroy", "--yes").stderr
    assert stack.buckets() == ["their-bucket"]


def test_a_bucket_of_others_keeps_its_notifications(stack: Stack) -> None:
    s3, theirs, where = stack.client("s3"), "their-bucket", {"LocationConstraint": "eu-west-1"}
    s3.create_bucket(Bucket=theirs, CreateBucketConfiguration=where)
    stack.edit("files: {type: bucket}", f"files: {{type: bucket, managed: false, name: {theirs}}}")
    arn = stack.client("sqs").get_queue_attributes(
        QueueUrl=stack.client("sqs").create_queue(QueueName="their-queue")["QueueUrl"], AttributeNames=["QueueArn"]
    )["Attributes"]["QueueArn"]

    def told() -> list[dict[str, Any]]:
        return list(s3.get_bucket_notification_configuration(Bucket=theirs).get("QueueConfigurations", ()))

    def tell(*configurations: dict[str, Any]) -> None:
        configuration = {"QueueConfigurations": list(configurations)}
        s3.put_bucket_notification_configuration(Bucket=theirs, NotificationConfiguration=configuration)

    mine = {"Id": "mine", "QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}
    tell(mine)
    refused = stack.run("plan", expect=1)
    assert f"tells others of its objects: {arn}" in refused.stderr
    assert "managed: false, name: QUEUE" in refused.stderr
    assert "tells others of its objects" in stack.apply(expect=1).stderr
    assert [q["Id"] for q in told()] == ["mine"]

    tell()
    stack.apply()
    ours = told()
    assert [q["Id"] for q in ours] == ["arrivals"]
    tell(*ours, mine)
    assert "nothing to do" in stack.run("plan", "--exit-code").stderr
    assert "tells others of its objects" in stack.run("destroy", "--yes", expect=1).stderr
    assert [q["Id"] for q in told()] == ["arrivals", "mine"]
    tell(*ours)
    stack.run("destroy", "--yes")
    assert told() == []
    assert stack.buckets() == [theirs]


def test_a_topic_that_is_renamed_is_replaced(stack: Stack) -> None:
    stack.edit("  done:", "  news: {type: topic}\n  done:")
    stack.apply()
    stack.edit("news: {type: topic}", "news: {type: topic, name: bulletin}")
    planned = stack.run("plan", "--exit-code", expect=3).stdout
    assert "Primitives to replace:\n└── SNSTopic\n" in planned
    assert "name: shop-aws-news -> bulletin" in planned
    assert "replaced SNSTopic" in stack.apply().stderr


def test_another_region_is_named(stack: Stack) -> None:
    stack.apply()
    stack.edit("region: eu-west-1", "region: eu-central-1")
    planned = stack.run("plan", "--exit-code", expect=3).stdout
    assert "region: eu-west-1 -> eu-central-1" in planned
    assert "(none)" not in planned


def test_neither_a_region_nor_the_profile_is_there(stack: Stack) -> None:
    nowhere = {"AWS_CONFIG_FILE": str(stack.folder / "none"), "AWS_DEFAULT_REGION": "", "AWS_REGION": ""}
    stack.edit("region: eu-west-1, ", "")
    assert "help: write the stack's `aws: {region: ...}`" in stack.run("plan", expect=1, **nowhere).stderr
    stack.edit("aws: {", "aws: {profile: nope, ")
    refused = stack.run("plan", expect=1, **nowhere).stderr
    assert "the config profile (nope) could not be found" in refused.lower()


def test_an_emulator_that_is_dead_is_named(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        dead = f"127.0.0.1:{taken.getsockname()[1]}"
    stack.edit(stack.endpoint, f"http://{dead}")
    refused = stack.run("plan", expect=1).stderr
    assert f"help: see that {dead} can be reached" in refused
    assert "region" not in refused.partition("help: ")[2]


def test_a_stream_that_leaves_a_bucket_of_others_takes_its_own_notification_only(stack: Stack) -> None:
    s3, where = stack.client("s3"), {"LocationConstraint": "eu-west-1"}
    for name in ("their-bucket", "other-bucket"):
        s3.create_bucket(Bucket=name, CreateBucketConfiguration=where)
    stack.edit("files: {type: bucket}", "files: {type: bucket, managed: false, name: their-bucket}")
    stack.apply()
    told = s3.get_bucket_notification_configuration(Bucket="their-bucket")["QueueConfigurations"]
    told.append({"Id": "mine", "QueueArn": told[0]["QueueArn"], "Events": ["s3:ObjectRemoved:*"]})
    s3.put_bucket_notification_configuration(
        Bucket="their-bucket", NotificationConfiguration={"QueueConfigurations": told}
    )
    stack.edit("name: their-bucket", "name: other-bucket")
    refused = stack.apply("--allow-data-loss", expect=1)
    assert "s3://their-bucket" in refused.stderr
    assert "tells others of its objects" in refused.stderr
    left = s3.get_bucket_notification_configuration(Bucket="their-bucket")["QueueConfigurations"]
    assert [one["Id"] for one in left] == ["arrivals", "mine"]


def test_a_region_that_aws_does_not_have(stack: Stack) -> None:
    stack.edit(f'region: eu-west-1, endpoint_url: "{stack.endpoint}"', "region: eu-central-9")
    refused = stack.run("plan", expect=1)
    assert "eu-central-9" in refused.stderr
    assert "help: check the stack's `aws: {region: ...}`" in refused.stderr
    assert not (stack.folder / ".buildflow/aws/state.json").exists()


def test_a_bucket_that_is_in_another_region(stack: Stack) -> None:
    theirs = boto3.client("s3", region_name="eu-central-1", endpoint_url=stack.endpoint,
                          aws_access_key_id="AKIA", aws_secret_access_key="x")  # fmt: skip
    theirs.create_bucket(Bucket="their-bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    stack.edit("files: {type: bucket}", "files: {type: bucket, managed: false, name: their-bucket}")
    refused = stack.apply(expect=1)
    assert '("files") is in eu-central-1, and is looked for in eu-west-1' in refused.stderr
    assert "help: say so on it: `aws: {region: eu-central-1}`" in refused.stderr
    stack.edit("name: their-bucket}", "name: their-bucket, aws: {region: eu-central-1}}")
    stack.apply()
    assert ":eu-central-1:" in stack.recorded()["arrivals"]["outputs"]["arn"]


def test_no_credentials(stack: Stack) -> None:
    path = stack.folder / "buildflow.yaml"
    keys = ', aws_access_key_id: AKIA, aws_secret_access_key: "${secret.KEY}"'
    path.write_text(path.read_text().replace(keys, ""))
    nobody = {name: "" for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    refused = stack.run("plan", expect=1, AWS_EC2_METADATA_DISABLED="true", HOME=str(stack.folder), **nobody)
    assert "credentials" in refused.stderr
    assert "help: sign in with `aws configure` or `aws sso login`" in refused.stderr


def test_a_secret_that_is_not_set(stack: Stack) -> None:
    del stack.variables["KEY"]
    refused = stack.run("plan", expect=1)
    assert "the secret KEY is not set" in refused.stderr
