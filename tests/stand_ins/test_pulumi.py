"""The stand-in for the Pulumi CLI, driven by the real Automation API, with moto behind it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pulumi
import pulumi_aws as aws
import pulumi_random
import pytest
from pulumi import ResourceOptions, automation
from pulumi.automation.errors import CommandError, ConcurrentUpdateError, InlineSourceRuntimeError, StackNotFoundError

from tests.stand_ins import Hold, forget, moto, pulumi_environment

# When a program ends early, the SDK leaves its event loop open.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ACCOUNT = "123456789012"
Program = Callable[[], None]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with moto() as endpoint:
        yield endpoint


@dataclass
class Seen:
    """The events of one operation."""

    steps: list[tuple[str, str]] = field(default_factory=list)
    """(operation, resource name) in the order in which they ended, without those that changed nothing."""
    details: dict[str, dict[str, str]] = field(default_factory=dict)
    keys: dict[str, list[str]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    changes: dict[str, int] = field(default_factory=dict)
    text: str = ""

    def __call__(self, event: automation.EngineEvent) -> None:
        self.text += repr(event)
        if event.res_outputs_event:
            self._step(event.res_outputs_event.metadata)
        if event.res_op_failed_event:
            self.failed.append(event.res_op_failed_event.metadata.urn.rsplit("::", 1)[1])
        if event.diagnostic_event:
            told = {"error": self.errors, "warning": self.warnings}.get(event.diagnostic_event.severity)
            if told is not None:
                told.append(event.diagnostic_event.message)
        if event.summary_event:
            self.changes = dict(event.summary_event.resource_changes)

    def _step(self, metadata: Any) -> None:
        name = metadata.urn.rsplit("::", 1)[1]
        if metadata.op.value != "same" and (metadata.op.value, name) not in self.steps:
            self.steps.append((metadata.op.value, name))
        if metadata.detailed_diff:
            self.details[name] = {path: diff.diff_kind.value for path, diff in metadata.detailed_diff.items()}
            self.keys[name] = metadata.keys


class World:
    """A project `p` with a stack `dev`, on a machine with the stand-ins."""

    def __init__(self, endpoint: str, folder: Path, environment: dict[str, str]) -> None:
        self.endpoint, self.folder, self.environment = endpoint, folder, environment
        self.work = folder / "work"
        self.work.mkdir()

    def stack(self, program: Program | None = None) -> automation.Stack:
        options = automation.LocalWorkspaceOptions(work_dir=str(self.work))
        return automation.create_or_select_stack("dev", "p", program or (lambda: None), opts=options)

    def up(self, program: Program, **options: Any) -> Seen:
        seen = Seen()
        self.stack(program).up(on_event=seen, **options)
        return seen

    def preview(self, program: Program, **options: Any) -> Seen:
        seen = Seen()
        self.stack(program).preview(on_event=seen, **options)
        return seen

    def refused(self, program: Program, **options: Any) -> str:
        """What an update says that fails."""
        seen = Seen()
        with pytest.raises(CommandError):
            self.stack(program).up(on_event=seen, **options)
        return "".join(seen.errors)

    def pulumi(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["pulumi", "--non-interactive", *words],
            cwd=self.work,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def state(self) -> dict[str, Any]:
        path = self.folder / "pulumi-state" / ".pulumi" / "stacks" / "p" / "dev.json"
        return json.loads(path.read_text())["checkpoint"]["latest"]

    def resource(self, name: str) -> dict[str, Any]:
        return next(each for each in self.state["resources"] if each["urn"].endswith(f"::{name}"))

    @property
    def pending(self) -> list[tuple[str, str]]:
        return [(each["resource"]["urn"].rsplit("::", 1)[1], each["type"]) for each in self.state["pending_operations"]]

    def client(self, service: str, region: str = "eu-central-1") -> Any:
        return boto3.client(service, endpoint_url=self.endpoint, region_name=region)

    def queues(self) -> set[str]:
        return {url.rsplit("/", 1)[1] for url in self.client("sqs").list_queues().get("QueueUrls", ())}

    def buckets(self) -> set[str]:
        return {bucket["Name"] for bucket in self.client("s3").list_buckets()["Buckets"]}


@pytest.fixture
def world(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    forget(server)
    environment = pulumi_environment(tmp_path, server)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return World(server, tmp_path, environment)


def files_and_events(
    *, visibility: int = 30, tags: dict[str, str] | None = None, queue: str = "p-dev-q", ordered: bool = True
) -> Program:
    """A bucket that tells a queue of its new objects: what the race of issue 5 is about."""

    def program() -> None:
        bucket = aws.s3.Bucket("bucket", bucket="p-dev-files", tags=tags)
        events = aws.sqs.Queue("queue", name=queue, visibility_timeout_seconds=visibility)
        policy = aws.sqs.QueuePolicy("policy", queue_url=events.id, policy=lets(events.arn, bucket.arn))
        aws.s3.BucketNotification(
            "notification",
            bucket=bucket.id,
            queues=[{"queue_arn": events.arn, "events": ["s3:ObjectCreated:*"], "filter_prefix": "in/"}],
            opts=ResourceOptions(depends_on=[policy] if ordered else []),
        )
        pulumi.export("url", events.url)

    return program


def lets(queue_arn: pulumi.Output[str], bucket_arn: pulumi.Output[str], account: str = ACCOUNT) -> pulumi.Output[str]:
    return pulumi.Output.json_dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"Service": "s3.amazonaws.com"},
                    "Action": "sqs:SendMessage",
                    "Resource": queue_arn,
                    "Condition": {
                        "ArnEquals": {"aws:SourceArn": bucket_arn},
                        "StringEquals": {"aws:SourceAccount": account},
                    },
                }
            ],
        }
    )


def one_queue(name: str = "p-dev-q", opts: ResourceOptions | None = None, **properties: Any) -> Program:
    return lambda: void(aws.sqs.Queue("queue", name=name, opts=opts, **properties))


def one_bucket(name: str = "p-dev-files", opts: ResourceOptions | None = None, **properties: Any) -> Program:
    return lambda: void(aws.s3.Bucket("bucket", bucket=name, opts=opts, **properties))


def void(_: object) -> None:
    """A program returns nothing."""


class TestLifecycle:
    def test_from_nothing_and_again(self, world: World) -> None:
        planned = world.preview(files_and_events())
        assert (planned.changes, world.buckets(), world.queues()) == ({"create": 5}, set(), set())

        result = world.stack(files_and_events()).up()
        assert result.summary.resource_changes == {"create": 5}
        assert result.outputs["url"].value.endswith(f"/{ACCOUNT}/p-dev-q")
        assert (world.buckets(), world.queues()) == ({"p-dev-files"}, {"p-dev-q"})
        world.client("s3").put_object(Bucket="p-dev-files", Key="in/a", Body=b"")
        bodies = world.client("sqs").receive_message(QueueUrl=result.outputs["url"].value, MaxNumberOfMessages=10)[
            "Messages"
        ]
        assert any("ObjectCreated" in message["Body"] for message in bodies)

        again = world.up(files_and_events())
        assert (again.changes, again.steps) == ({"same": 5}, [])
        world.client("s3").delete_object(Bucket="p-dev-files", Key="in/a")

        world.stack().destroy()
        assert (world.buckets(), world.queues(), world.state["resources"]) == (set(), set(), [])

    def test_an_edit_updates(self, world: World) -> None:
        world.up(files_and_events(tags={"team": "a", "cost": "1"}))
        edited = files_and_events(visibility=60, tags={"team": "b", "stage": "dev"})
        planned, done = world.preview(edited), world.up(edited)
        for seen in (planned, done):
            assert seen.changes == {"update": 2, "same": 3}
            assert seen.details == {
                "queue": {"visibilityTimeoutSeconds": "update"},
                "bucket": {"tags.team": "update", "tags.cost": "delete", "tags.stage": "add"},
            }
        tags = world.client("s3").get_bucket_tagging(Bucket="p-dev-files")["TagSet"]
        assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "b", "stage": "dev"}
        # An option that is taken away goes back to what AWS has by default.
        assert world.up(files_and_events()).details["queue"] == {"visibilityTimeoutSeconds": "update"}
        assert world.resource("queue")["outputs"]["visibilityTimeoutSeconds"] == 30

    def test_what_the_program_has_no_more_is_deleted(self, world: World) -> None:
        world.up(files_and_events())
        seen = world.up(one_bucket())
        assert seen.steps == [("delete", "notification"), ("delete", "policy"), ("delete", "queue")]
        assert (world.buckets(), world.queues()) == ({"p-dev-files"}, set())

    def test_every_type_comes_and_goes(self, world: World) -> None:
        stack = world.stack(everything)
        created = stack.up()
        assert created.summary.resource_changes == {"create": 37}
        assert created.outputs["password"].secret
        assert len(created.outputs["password"].value) == 24
        assert created.outputs["endpoint"].value.endswith(":5432")
        assert stack.up().summary.resource_changes == {"same": 37}
        assert stack.refresh().summary.resource_changes == {"same": 37}
        assert stack.destroy().summary.resource_changes == {"delete": 37}
        assert (world.buckets(), world.queues()) == (set(), set())


class TestReplacements:
    def test_a_chosen_name_is_deleted_first_and_all_that_hangs_on_it(self, world: World) -> None:
        world.up(files_and_events())
        renamed = files_and_events(queue="p-dev-other")
        expected = [
            ("delete-replaced", "policy"),
            ("delete-replaced", "queue"),
            ("replace", "queue"),
            ("create-replacement", "queue"),
            ("replace", "policy"),
            ("create-replacement", "policy"),
            ("update", "notification"),
        ]
        for seen in (world.preview(renamed), world.up(renamed)):
            assert seen.steps == expected
            assert seen.changes == {"replace": 2, "update": 1, "same": 2}
            assert (seen.keys["queue"], seen.details["queue"]) == (["name"], {"name": "update-replace"})
        assert world.queues() == {"p-dev-other"}
        assert world.up(renamed).changes == {"same": 5}

    def test_a_made_name_is_created_first(self, world: World) -> None:
        def program(fifo: bool) -> Program:
            return lambda: void(aws.sqs.Queue("queue", fifo_queue=fifo))

        world.up(program(fifo=False))
        seen = world.up(program(fifo=True))
        assert seen.steps == [("create-replacement", "queue"), ("replace", "queue"), ("delete-replaced", "queue")]
        (name,) = world.queues()
        assert name.startswith("queue-")
        assert name.endswith(".fifo")

    def test_the_program_may_ask_for_the_other_order(self, world: World) -> None:
        first = ResourceOptions(delete_before_replace=True)
        world.up(lambda: void(aws.sqs.Queue("queue", fifo_queue=False, opts=first)))
        seen = world.up(lambda: void(aws.sqs.Queue("queue", fifo_queue=True, opts=first)))
        assert [op for op, _ in seen.steps] == ["delete-replaced", "replace", "create-replacement"]

    def test_replace_on_changes(self, world: World) -> None:
        opts = ResourceOptions(replace_on_changes=["tags"])
        world.up(one_queue(tags={"a": "1"}, opts=opts))
        assert world.up(one_queue(tags={"a": "2"}, opts=opts)).details["queue"] == {"tags.a": "update-replace"}

    def test_another_region_replaces(self, world: World) -> None:
        world.up(one_queue(region="eu-central-1"))
        assert world.up(one_queue(region="eu-west-1")).keys["queue"] == ["region"]
        assert world.queues() == set()
        assert len(world.client("sqs", "eu-west-1").list_queues()["QueueUrls"]) == 1


class TestOptions:
    def test_protected_is_neither_deleted_nor_replaced(self, world: World) -> None:
        protected = ResourceOptions(protect=True)
        world.up(one_queue(opts=protected))
        urn = world.resource("queue")["urn"]
        assert f'unable to replace resource "{urn}"\nas it is currently marked for protection' in world.refused(
            one_queue("p-dev-other", opts=protected)
        )
        seen = Seen()
        with pytest.raises(CommandError):
            world.stack().destroy(on_event=seen)
        assert f'resource "{urn}" cannot be deleted\nbecause it is protected.' in seen.errors[0]
        assert f"pulumi state unprotect '{urn}'" in seen.errors[0]
        assert world.queues() == {"p-dev-q"}
        world.up(one_queue())
        world.stack().destroy()
        assert world.queues() == set()

    def test_ignored_changes(self, world: World) -> None:
        ignore = ResourceOptions(ignore_changes=["tags.a", "visibilityTimeoutSeconds"])
        world.up(one_queue(tags={"a": "1"}, visibility_timeout_seconds=10))
        seen = world.up(one_queue(tags={"a": "2", "b": "2"}, visibility_timeout_seconds=20, opts=ignore))
        assert seen.details["queue"] == {"tags.b": "add"}

    def test_an_alias_is_the_same_resource(self, world: World) -> None:
        world.up(one_queue())
        renamed = ResourceOptions(aliases=[pulumi.Alias(name="queue")])
        seen = world.up(lambda: void(aws.sqs.Queue("events", name="p-dev-q", opts=renamed)))
        assert (seen.changes, world.queues()) == ({"same": 2}, {"p-dev-q"})

    def test_retained_on_delete(self, world: World) -> None:
        world.up(one_queue(opts=ResourceOptions(retain_on_delete=True)))
        assert world.up(lambda: None).steps == [("delete", "queue")]
        assert world.queues() == {"p-dev-q"}

    def test_targets(self, world: World) -> None:
        world.up(files_and_events())
        target = world.resource("queue")["urn"]
        seen = world.up(files_and_events(visibility=60, tags={"a": "1"}), target=[target])
        assert seen.steps == [("update", "queue")]


class TestDrift:
    def test_refresh_finds_it_and_the_next_update_repairs_it(self, world: World) -> None:
        program = files_and_events(tags={"team": "a"})
        world.up(program)
        sqs, url = world.client("sqs"), world.resource("queue")["id"]
        policy = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]  # or moto forgets it
        sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "99", **policy})
        world.client("s3").put_bucket_tagging(
            Bucket="p-dev-files", Tagging={"TagSet": [{"Key": "team", "Value": "somebody else"}]}
        )
        world.client("s3").put_bucket_notification_configuration(Bucket="p-dev-files", NotificationConfiguration={})
        before = world.state["resources"]
        looked = Seen()
        world.stack().preview_refresh(on_event=looked)
        assert world.state["resources"] == before
        refreshed = Seen()
        world.stack().refresh(on_event=refreshed)
        for seen in (looked, refreshed):
            assert seen.changes == {"same": 2, "update": 2, "delete": 1}
            assert seen.details["queue"] == {"visibilityTimeoutSeconds": "update"}
            assert ("delete", "notification") in seen.steps
        repaired = world.up(program)
        assert repaired.changes == {"same": 2, "update": 2, "create": 1}
        assert repaired.details["bucket"] == {"tags.team": "update"}

    def test_refresh_before_an_update(self, world: World) -> None:
        world.up(one_queue())
        world.client("sqs").delete_queue(QueueUrl=world.resource("queue")["id"])
        assert world.up(one_queue()).changes == {"same": 2}, "without it, the engine believes its state"
        assert world.up(one_queue(), refresh=True).changes["create"] == 1
        assert world.queues() == {"p-dev-q"}


CHILD = """
import sys
from pulumi import automation
sys.path.insert(0, {root!r})
from tests.stand_ins.test_pulumi import files_and_events
options = automation.LocalWorkspaceOptions(work_dir={work!r})
automation.create_or_select_stack("dev", "p", files_and_events(), opts=options).up()
"""


@pytest.fixture
def apply_held(world: World) -> Iterator[Callable[[Hold], subprocess.Popen[str]]]:
    """Start an update in a session of its own, and wait until it is where it is held."""
    started: list[tuple[subprocess.Popen[str], Hold]] = []

    def start(hold: Hold) -> subprocess.Popen[str]:
        code = CHILD.format(root=str(Path(__file__).parents[2]), work=str(world.work))
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, **hold.environment},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append((process, hold))
        hold.reached()
        return process

    yield start
    for process, hold in started:
        hold.release()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdout and not process.stdout.closed:
            process.communicate()


@pytest.mark.slow
class TestInterruptions:
    def test_killed_behind_a_creation_and_resumed(self, world: World, apply_held: Any) -> None:
        process = apply_held(Hold("after", "aws:sqs/queuePolicy:QueuePolicy"))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        url = world.resource("queue")["id"]
        assert "Policy" in world.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        assert world.pending == [("policy", "creating")], "SQS has it, and the checkpoint does not know"

        with pytest.raises(ConcurrentUpdateError, match=r"the stack is currently locked by 1 lock\(s\)"):
            world.stack(files_and_events()).up()
        world.stack().cancel()
        resumed = world.up(files_and_events())
        assert "policy, interrupted while creating" in resumed.warnings[0]
        assert resumed.changes == {"same": 3, "create": 2}
        # What became of an interrupted creation is for people to say.
        assert world.pending == [("policy", "creating")]
        world.stack(files_and_events()).refresh(clear_pending_creates=True)
        assert world.pending == []
        assert world.up(files_and_events()).changes == {"same": 5}

    def test_killed_before_an_update_of_an_existing_stack(self, world: World, apply_held: Any) -> None:
        world.up(files_and_events(visibility=60))
        process = apply_held(Hold("before", "aws:sqs/queue:Queue"))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert ("queue", "updating") in world.pending
        world.stack().cancel()
        assert world.up(files_and_events()).details["queue"] == {"visibilityTimeoutSeconds": "update"}
        assert world.pending == []

    def test_a_bucket_that_was_made_and_not_recorded_is_in_the_way(self, world: World, apply_held: Any) -> None:
        process = apply_held(Hold("after", "aws:s3/bucket:Bucket"))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        world.stack().cancel()
        assert "creating S3 Bucket (p-dev-files): operation error S3: CreateBucket" in world.refused(files_and_events())
        adopted = world.up(one_bucket(opts=ResourceOptions(import_="p-dev-files")))
        assert ("import", "bucket") in adopted.steps
        assert world.up(one_bucket()).changes == {"same": 2}

    def test_what_somebody_found_is_taken_up(self, world: World) -> None:
        """A creation that was interrupted, written into the state with its inputs: a refresh reads the rest."""
        stack = world.stack(files_and_events())
        stack.up()
        exported = stack.export_stack()
        queue = next(each for each in exported.deployment["resources"] if each["urn"].endswith("::queue"))
        queue["outputs"] = queue["inputs"]
        stack.import_stack(exported)
        assert stack.refresh().summary.resource_changes == {"same": 5}
        assert world.resource("queue")["outputs"]["arn"].endswith(":p-dev-q")
        assert stack.up().summary.resource_changes == {"same": 5}

    def test_two_at_once(self, world: World, apply_held: Any) -> None:
        hold = Hold("before", "aws:s3/bucket:Bucket")
        process = apply_held(hold)
        with pytest.raises(ConcurrentUpdateError) as refused:
            world.stack(one_queue()).up()
        assert "Either wait for the other process(es) to end or delete the lock file with `pulumi cancel`." in str(
            refused.value
        )
        hold.release()
        process.communicate()
        assert process.returncode == 0
        assert world.up(files_and_events()).changes == {"same": 5}

    def test_ctrl_c_lets_what_runs_end(self, world: World, apply_held: Any) -> None:
        hold = Hold("after", "aws:sqs/queue:Queue")
        process = apply_held(hold)
        children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True)
        os.kill(int(children.stdout.split()[0]), signal.SIGINT)
        hold.release()
        output, _ = process.communicate()
        assert "update canceled" in output
        assert process.returncode == 1
        assert world.resource("queue")["id"].endswith("p-dev-q")
        assert world.pending == []
        assert world.up(files_and_events()).changes["create"] >= 2, "and nothing is locked"


class TestSecrets:
    def program(self) -> None:
        text = pulumi.Output.secret("hush-hush")
        secret = aws.secretsmanager.Secret("secret", name="p-dev", recovery_window_in_days=0)
        aws.secretsmanager.SecretVersion("version", secret_id=secret.id, secret_string=text)
        pulumi.export("text", text)
        pulumi.export("mapping", {"inner": text})

    def test_they_are_encrypted_and_masked(self, world: World) -> None:
        stack, seen = world.stack(self.program), Seen()
        result = stack.up(on_event=seen)
        assert (result.outputs["text"].value, result.outputs["text"].secret) == ("hush-hush", True)
        assert "hush" not in seen.text + result.stdout + json.dumps(world.state)
        assert "hush" not in world.pulumi("stack", "output", "--json").stdout
        assert world.client("secretsmanager").get_secret_value(SecretId="p-dev")["SecretString"] == "hush-hush"

        exported = stack.export_stack()
        assert "hush-hush" in json.dumps(exported.deployment)
        stack.import_stack(exported)
        assert "hush" not in json.dumps(world.state)
        assert stack.up().summary.resource_changes == {"same": 3}

    def test_a_wrong_passphrase(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.stack(self.program).up()
        monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "another")
        for operation in (lambda: world.stack(self.program).preview(), lambda: world.stack().destroy()):
            with pytest.raises(CommandError, match="incorrect passphrase"):
                operation()
        monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE")
        with pytest.raises(CommandError, match="passphrase must be set with PULUMI_CONFIG_PASSPHRASE"):
            world.stack(self.program).up()
        assert world.pulumi("stack", "output", "--json").stdout, "what shows no secret needs no passphrase"

    def test_config(self, world: World) -> None:
        def program() -> None:
            config = pulumi.Config()
            pulumi.export("size", config.require_int("size"))
            pulumi.export("key", config.require_secret("key"))

        stack = world.stack(program)
        stack.set_all_config(
            {"size": automation.ConfigValue("3"), "key": automation.ConfigValue("hush-hush", secret=True)}
        )
        assert "hush" not in (world.work / "Pulumi.dev.yaml").read_text()
        assert stack.get_config("key").value == "hush-hush"
        outputs = stack.up().outputs
        assert (outputs["size"].value, outputs["key"].value, outputs["key"].secret) == (3, "hush-hush", True)
        stack.remove_config("size")
        assert list(stack.get_all_config()) == ["p:key"]


class TestRefusals:
    """In the words of AWS and of the provider."""

    def test_a_notification_that_does_not_wait_for_its_policy(self, world: World) -> None:
        for _ in range(2):  # by no chance is it early enough
            assert "Unable to validate the following destination configurations" in world.refused(
                files_and_events(ordered=False)
            )
            world.stack().destroy()

    def test_a_policy_for_another_account(self, world: World) -> None:
        def program() -> None:
            bucket = aws.s3.Bucket("bucket", bucket="p-dev-files")
            queue = aws.sqs.Queue("queue", name="p-dev-q")
            text = lets(queue.arn, bucket.arn, account="999999999999")
            policy = aws.sqs.QueuePolicy("policy", queue_url=queue.id, policy=text)
            aws.s3.BucketNotification(
                "notification",
                bucket=bucket.id,
                queues=[{"queue_arn": queue.arn, "events": ["s3:ObjectCreated:*"]}],
                opts=ResourceOptions(depends_on=[policy]),
            )

        assert "Unable to validate the following destination configurations" in world.refused(program)

    def test_a_name_that_is_taken(self, world: World) -> None:
        world.client("s3").create_bucket(
            Bucket="p-dev-files", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )
        assert "api error BucketAlreadyOwnedByYou" in world.refused(one_bucket())
        world.client("s3", "us-east-1").create_bucket(Bucket="p-dev-others")
        assert "creating S3 Bucket (p-dev-others): BucketAlreadyExists" in world.refused(
            one_bucket("p-dev-others", region="us-east-1")
        )

    def test_a_bucket_that_is_not_empty(self, world: World) -> None:
        world.up(one_bucket())
        world.client("s3").put_object(Bucket="p-dev-files", Key="a", Body=b"")
        seen = Seen()
        with pytest.raises(CommandError):
            world.stack().destroy(on_event=seen)
        assert "deleting S3 Bucket (p-dev-files): operation error S3: DeleteBucket" in seen.errors[0]
        assert "api error BucketNotEmpty" in seen.errors[0]
        assert (seen.failed, world.pending) == (["bucket"], [])
        world.up(one_bucket(force_destroy=True))
        world.stack().destroy()
        assert world.buckets() == set()

    def test_what_does_not_exist(self, world: World) -> None:
        bucket = world.refused(lambda: void(aws.s3.get_bucket_output(bucket="p-dev-none").arn))
        assert "reading S3 Bucket (p-dev-none): couldn't find resource" in bucket
        queue = world.refused(lambda: void(aws.sqs.get_queue_output(name="p-dev-none").arn))
        assert "reading SQS Queue (p-dev-none) URL: couldn't find resource" in queue
        topic = world.refused(lambda: void(aws.sns.get_topic_output(name="p-dev-none").arn))
        assert "no matching SNS Topic found" in topic
        database = world.refused(lambda: void(aws.rds.get_instance_output(db_instance_identifier="p-dev-none").address))
        assert "no matching RDS DB Instance found" in database
        assert "resource 'p-dev-none' does not exist" in world.refused(
            lambda: void(aws.s3.Bucket.get("bucket", "p-dev-none"))
        )

    def test_a_database_with_deletion_protection(self, world: World) -> None:
        def program(protection: bool) -> Program:
            return lambda: void(
                aws.rds.Instance(
                    "db", identifier="p-dev", instance_class="db.t4g.micro", engine="postgres", allocated_storage=20,
                    username="app", password="p-dev-password", skip_final_snapshot=True,
                    deletion_protection=protection,
                )
            )  # fmt: skip

        world.up(program(protection=True))
        with pytest.raises(CommandError, match="Cannot delete protected DB Instance"):
            world.stack().destroy()
        assert world.up(program(protection=False)).details["db"] == {"deletionProtection": "update"}
        world.stack().destroy()
        assert world.client("rds").describe_db_instances()["DBInstances"] == []

    def test_nobody_is_signed_in(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, str(world.folder / "none"))
        assert "has a problem: No valid credential sources found." in world.refused(one_queue())
        monkeypatch.setenv("AWS_PROFILE", "nobody")
        assert "nobody" in world.refused(one_queue())

    def test_no_region(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(world.folder / "none"))
        assert "Make sure you have set your AWS region" in world.refused(one_queue())

    def test_what_the_stand_in_does_not_know(self, world: World) -> None:
        assert "unrecognized resource type (Check): aws:glacier/vault:Vault" in world.refused(
            lambda: void(aws.glacier.Vault("vault"))
        )
        assert 'knows no argument "acl" of aws:s3/bucket:Bucket' in world.refused(one_bucket(acl="private"))

    def test_a_program_that_fails(self, world: World) -> None:
        def program() -> None:
            aws.sqs.Queue("queue", name="p-dev-q")
            raise ValueError("no such luck")

        with pytest.raises(InlineSourceRuntimeError, match="no such luck"):
            world.stack(program).up()
        assert "Duplicate resource URN" in world.refused(
            lambda: void([aws.sqs.Queue("queue", name=name) for name in ("p-dev-a", "p-dev-b")])
        )


class TestProviders:
    def test_an_explicit_one_says_where_and_who(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
            monkeypatch.delenv(name)
        endpoint = world.endpoint

        def program() -> None:
            services = ("s3", "sqs", "sts")
            provider = aws.Provider(
                "aws",
                region="eu-west-1",
                access_key="AKIDEXAMPLE",
                secret_key=pulumi.Output.secret("hush-hush"),
                endpoints=[dict.fromkeys(services, endpoint)],
                default_tags={"tags": {"stack": "dev"}},
            )
            opts = ResourceOptions(provider=provider)
            queue = aws.sqs.Queue("queue", name="p-dev-q", tags={"own": "1"}, opts=opts)
            who = aws.get_caller_identity_output(opts=pulumi.InvokeOptions(provider=provider))
            pulumi.export("account", who.account_id)
            pulumi.export("arn", queue.arn)

        stack = world.stack(program)
        assert stack.preview().change_summary == {"create": 3}
        outputs = stack.up().outputs
        assert outputs["account"].value == ACCOUNT
        assert outputs["arn"].value == f"arn:aws:sqs:eu-west-1:{ACCOUNT}:p-dev-q"
        sqs = boto3.client("sqs", "eu-west-1", endpoint_url=endpoint, aws_access_key_id="a", aws_secret_access_key="b")
        assert sqs.list_queue_tags(QueueUrl=world.resource("queue")["id"])["Tags"] == {"stack": "dev", "own": "1"}
        assert "hush" not in json.dumps(world.state)
        assert stack.destroy().summary.resource_changes == {"delete": 3}, "by what the state says of the provider"

    def test_what_is_read_is_never_changed(self, world: World) -> None:
        world.client("s3").create_bucket(
            Bucket="p-dev-theirs", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
        )

        def program() -> None:
            theirs = aws.s3.Bucket.get("theirs", "p-dev-theirs")
            pulumi.export("arn", theirs.arn)
            pulumi.export("region", aws.s3.get_bucket_output(bucket=theirs.bucket).region)

        stack = world.stack(program)
        outputs = stack.up().outputs
        assert outputs["arn"].value == "arn:aws:s3:::p-dev-theirs"
        assert outputs["region"].value == "eu-central-1"
        stack.destroy()
        assert world.buckets() == {"p-dev-theirs"}


class TestPlans:
    def test_an_update_does_what_its_plan_says_and_nothing_else(self, world: World) -> None:
        plan = str(world.folder / "plan.json")
        world.preview(files_and_events(), plan=plan)
        assert "violates plan: properties changed: ~~[visibilityTimeoutSeconds]" in world.refused(
            files_and_events(visibility=99), plan=plan
        )
        world.stack().destroy()
        world.up(files_and_events(), plan=plan)
        assert "update is not allowed by the plan: this resource is constrained to create" in world.refused(
            files_and_events(visibility=99), plan=plan
        )
        world.preview(files_and_events(), plan=plan)
        assert "update is not allowed by the plan: this resource is constrained to same" in world.refused(
            files_and_events(visibility=99), plan=plan
        )

        def more() -> None:
            files_and_events()()
            aws.sqs.Queue("more", name="p-dev-more")

        assert "create is not allowed by the plan: no steps were expected for this resource" in world.refused(
            more, plan=plan
        )


class TestCommands:
    def test_stacks(self, world: World) -> None:
        options = automation.LocalWorkspaceOptions(work_dir=str(world.work))
        world.stack()
        with pytest.raises(StackNotFoundError, match="no stack named 'none' found"):
            automation.select_stack("none", "p", lambda: None, opts=options)
        with pytest.raises(automation.StackAlreadyExistsError):
            automation.create_stack("dev", "p", lambda: None, opts=options)
        stack = world.stack(one_queue())
        stack.up(message="first")
        (listed,) = stack.workspace.list_stacks()
        assert (listed.name, listed.current, listed.resource_count) == ("dev", True, 3)
        assert [(each.kind, each.message, each.result) for each in stack.history()] == [
            ("update", "first", "succeeded")
        ]
        with pytest.raises(CommandError, match="'dev' still has resources; removal rejected"):
            stack.workspace.remove_stack("dev")
        stack.destroy()
        stack.workspace.remove_stack("dev")
        assert stack.workspace.list_stacks() == []
        assert stack.workspace.who_am_i().user

    def test_a_backend_that_is_not_there(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{world.folder}/none")
        with pytest.raises(CommandError, match="unable to open bucket"):
            world.stack()

    def test_no_changes_expected(self, world: World) -> None:
        assert "no changes were expected but changes occurred" in world.refused(one_queue(), expect_no_changes=True)
        world.up(one_queue(), expect_no_changes=True)

    def test_events_in_a_file(self, world: World) -> None:
        """As the Automation API asked for them up to 3.205."""
        world.up(one_queue())
        log = world.folder / "events"
        assert (
            world.pulumi("destroy", "--yes", "--skip-preview", "--stack", "dev", "--event-log", str(log)).returncode
            == 0
        )
        events = [json.loads(line) for line in log.read_text().splitlines()]
        assert [event["sequence"] for event in events] == list(range(len(events)))
        assert set(events[0]) == {"sequence", "timestamp", "preludeEvent"}
        assert events[1]["resourcePreEvent"]["metadata"]["op"] == "delete"
        assert events[-2]["summaryEvent"]["resourceChanges"] == {"delete": 2}
        assert events[-1]["cancelEvent"] == {}

    def test_a_preview_as_json(self, world: World) -> None:
        digest = json.loads(world.stack(one_queue()).preview(json=True).stdout)
        assert digest["changeSummary"] == {"create": 2}
        assert [step["op"] for step in digest["steps"]] == ["create", "create"]
        assert digest["steps"][1]["newState"]["inputs"]["name"] == "p-dev-q"


class Files(pulumi.ComponentResource):
    """A bucket with every configuration."""

    def __init__(self, provider: aws.Provider) -> None:
        super().__init__("buildflow:S3Bucket", "files", None, ResourceOptions(providers=[provider]))
        opts = ResourceOptions(parent=self)
        self.bucket = aws.s3.Bucket("files", bucket="p-dev-files", force_destroy=True, tags={"a": "1"}, opts=opts)
        name = self.bucket.id
        aws.s3.BucketVersioning("versioning", bucket=name, versioning_configuration={"status": "Enabled"}, opts=opts)
        aws.s3.BucketServerSideEncryptionConfiguration(
            "encryption",
            bucket=name,
            rules=[{"apply_server_side_encryption_by_default": {"sse_algorithm": "AES256"}}],
            opts=opts,
        )
        aws.s3.BucketPublicAccessBlock(
            "access",
            bucket=name,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=opts,
        )
        aws.s3.BucketLifecycleConfiguration(
            "lifecycle",
            bucket=name,
            rules=[
                {"id": "old", "status": "Enabled", "filter": {"prefix": "tmp/"}, "expiration": {"days": 3}},
                {
                    "id": "versions",
                    "status": "Enabled",
                    "noncurrent_version_expiration": {"noncurrent_days": 30},
                    "abort_incomplete_multipart_upload": {"days_after_initiation": 7},
                    "transitions": [{"days": 60, "storage_class": "GLACIER"}],
                },
            ],
            opts=opts,
        )
        aws.s3.BucketCorsConfiguration(
            "cors",
            bucket=name,
            cors_rules=[{"allowed_methods": ["GET", "PUT"], "allowed_origins": ["*"], "max_age_seconds": 300}],
            opts=opts,
        )
        aws.s3.BucketOwnershipControls(
            "owner", bucket=name, rule={"object_ownership": "BucketOwnerEnforced"}, opts=opts
        )
        aws.s3.BucketPolicy("bucket-policy", bucket=name, policy=allow(self.bucket.arn, "s3:GetObject"), opts=opts)
        self.register_outputs({"bucket": self.bucket.bucket})


def allow(arn: pulumi.Output[str], action: str) -> pulumi.Output[str]:
    statement = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": [action], "Resource": arn}
    return pulumi.Output.json_dumps({"Version": "2012-10-17", "Statement": [statement]})


def everything() -> None:
    """One of each type."""
    provider = aws.Provider("aws", region="eu-central-1", default_tags={"tags": {"stack": "dev"}})
    opts, asking = ResourceOptions(provider=provider), pulumi.InvokeOptions(provider=provider)
    files = Files(provider)

    dead = aws.sqs.Queue("dead", name="p-dev-dead", opts=opts)
    redrive = pulumi.Output.json_dumps({"deadLetterTargetArn": dead.arn, "maxReceiveCount": 5})
    queue = aws.sqs.Queue("queue", name="p-dev-q", sqs_managed_sse_enabled=True, redrive_policy=redrive, opts=opts)
    sources = pulumi.Output.json_dumps({"redrivePermission": "byQueue", "sourceQueueArns": [queue.arn]})
    aws.sqs.RedriveAllowPolicy("redrive-allow", queue_url=dead.id, redrive_allow_policy=sources, opts=opts)
    aws.sqs.Queue("ordered", fifo_queue=True, content_based_deduplication=True, opts=opts)
    policy = aws.sqs.QueuePolicy("policy", queue_url=queue.id, policy=lets(queue.arn, files.bucket.arn), opts=opts)
    aws.s3.BucketNotification(
        "notification",
        bucket=files.bucket.id,
        queues=[{"queue_arn": queue.arn, "events": ["s3:ObjectCreated:*"], "filter_suffix": ".png"}],
        opts=ResourceOptions(provider=provider, depends_on=[policy]),
    )

    topic = aws.sns.Topic("topic", name="p-dev-t", display_name="T", opts=opts)
    aws.sns.Topic("ordered-topic", fifo_topic=True, content_based_deduplication=True, opts=opts)
    aws.sns.TopicPolicy("topic-policy", arn=topic.arn, policy=allow(topic.arn, "sns:Publish"), opts=opts)
    subscribed = aws.sqs.Queue("subscribed", name="p-dev-s", opts=opts)
    aws.sns.TopicSubscription(
        "subscription",
        topic=topic.arn,
        protocol="sqs",
        endpoint=subscribed.arn,
        raw_message_delivery=True,
        filter_policy=json.dumps({"kind": ["a"]}),
        opts=opts,
    )

    trust = {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    role = aws.iam.Role("role", name="p-dev-worker", assume_role_policy=document, opts=opts)
    grant = {"Effect": "Allow", "Action": ["sqs:ReceiveMessage"], "Resource": queue.arn}
    grants = pulumi.Output.json_dumps({"Version": "2012-10-17", "Statement": [grant]})
    aws.iam.RolePolicy("inline", role=role.id, name="inline", policy=grants, opts=opts)
    managed = aws.iam.Policy("managed", name="p-dev-managed", description="d", policy=grants, opts=opts)
    aws.iam.RolePolicyAttachment("attachment", role=role.name, policy_arn=managed.arn, opts=opts)

    vpc = aws.ec2.get_vpc_output(default=True, opts=asking)
    subnets = aws.ec2.get_subnets_output(filters=[{"name": "vpc-id", "values": [vpc.id]}], opts=asking)
    group = aws.ec2.SecurityGroup("group", name="p-dev-db", description="database", vpc_id=vpc.id, opts=opts)
    aws.ec2.SecurityGroup(
        "group-with-rules",
        name="p-dev-rules",
        vpc_id=vpc.id,
        ingress=[{"protocol": "tcp", "from_port": 1, "to_port": 2, "cidr_blocks": ["10.0.0.0/8"]}],
        egress=[{"protocol": "-1", "from_port": 0, "to_port": 0, "cidr_blocks": ["0.0.0.0/0"]}],
        opts=opts,
    )
    aws.vpc.SecurityGroupIngressRule(
        "in",
        security_group_id=group.id,
        ip_protocol="tcp",
        from_port=5432,
        to_port=5432,
        cidr_ipv4="10.0.0.0/8",
        opts=opts,
    )
    aws.vpc.SecurityGroupEgressRule(
        "out", security_group_id=group.id, ip_protocol="-1", cidr_ipv4="0.0.0.0/0", opts=opts
    )
    aws.ec2.SecurityGroupRule(
        "rule",
        type="ingress",
        security_group_id=group.id,
        protocol="tcp",
        from_port=80,
        to_port=80,
        cidr_blocks=["10.0.0.0/8"],
        opts=opts,
    )

    place = aws.rds.SubnetGroup("place", name="p-dev-db", subnet_ids=subnets.ids, opts=opts)
    settings = aws.rds.ParameterGroup(
        "settings",
        name="p-dev-db",
        family="postgres16",
        parameters=[{"name": "rds.force_ssl", "value": "1"}],
        opts=opts,
    )
    password = pulumi_random.RandomPassword("password", length=24, special=False)
    database = aws.rds.Instance(
        "database",
        identifier="p-dev-db",
        instance_class="db.t4g.micro",
        engine="postgres",
        engine_version="16",
        allocated_storage=20,
        storage_encrypted=True,
        db_name="app",
        username="app",
        password=password.result,
        db_subnet_group_name=place.name,
        parameter_group_name=settings.name,
        vpc_security_group_ids=[group.id],
        skip_final_snapshot=True,
        apply_immediately=True,
        opts=opts,
    )
    secret = aws.secretsmanager.Secret("secret", name="p-dev-db", recovery_window_in_days=0, opts=opts)
    text = pulumi.Output.json_dumps({"password": password.result, "host": database.address})
    aws.secretsmanager.SecretVersion("secret-version", secret_id=secret.id, secret_string=text, opts=opts)

    pulumi.export("password", password.result)
    pulumi.export("endpoint", database.endpoint)
