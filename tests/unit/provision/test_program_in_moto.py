"""The program of a stack on AWS, run by the Automation API with the stand-in for Pulumi's CLI, against moto: what it
registers can be created, stays as it is, is changed in place where that can be, and goes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from pulumi import automation

from buildflow.provision.cloud.program import program
from tests.stand_ins import forget, moto, pulumi_environment
from tests.unit.provision.registered import compiled

FILE = """
project: shop
stacks: {{aws: {{provider: aws, aws: {{region: eu-west-1, endpoint_url: "{endpoint}"}}}}}}
primitives:
  images: {{type: bucket, versioning: true, cors: {{origins: ["*"]}}}}
  uploads: {{type: file_change_stream, bucket: images, suffix: .png}}
  texts: {{type: file_change_stream, bucket: images, suffix: .txt}}
  incoming: {{type: queue}}
  news: {{type: topic}}
  reader: {{type: subscription, topic: news, filter: {{country: [de, at]}}}}
  orders: {{type: database, deletion_protection: false, aws: {{final_snapshot: false}}}}
consumers:
  work: {{source: uploads, handler: app:work, sink: incoming}}
"""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto() as url:
        yield url


class Stack:
    """One stack on moto; `apply` answers with what became of each resource that did not stay as it was."""

    def __init__(self, endpoint: str, folder: Path) -> None:
        self.endpoint = endpoint
        self.folder = folder
        (folder / "app.py").write_text("def work(event) -> dict: ...\n")

    def apply(self, text: str) -> dict[str, str]:
        return self._run("up", text)

    def refresh(self, text: str) -> dict[str, str]:
        return self._run("refresh", text)

    def destroy(self, text: str) -> dict[str, str]:
        return self._run("destroy", text)

    def client(self, service: str) -> Any:
        return boto3.client(service, endpoint_url=self.endpoint, region_name="eu-west-1")

    def notified(self) -> dict[str, str]:
        found = self.client("s3").get_bucket_notification_configuration(Bucket="shop-aws-images")
        return {q["Id"]: q["QueueArn"].rpartition(":")[2] for q in found.get("QueueConfigurations", ())}

    def _run(self, operation: str, text: str) -> dict[str, str]:
        compilation = compiled(text, self.folder)
        declare = program(compilation.graph, compilation.plan, compilation.plan.settings, lambda secret: secret)
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        options = automation.LocalWorkspaceOptions(work_dir=str(work))
        stack = automation.create_or_select_stack("aws", "shop", declare, opts=options)
        found: dict[str, str] = {}

        def seen(event: automation.EngineEvent) -> None:
            metadata = event.res_outputs_event.metadata if event.res_outputs_event else None
            if metadata and metadata.op.value != "same" and metadata.type != "pulumi:pulumi:Stack":
                name = f"{metadata.type.rpartition(':')[2]} {metadata.urn.rpartition('::')[2]}"
                found[name] = metadata.op.value

        getattr(stack, operation)(on_event=seen)
        return found


@pytest.fixture
def stack(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    forget(endpoint)
    for name, value in pulumi_environment(tmp_path, endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL")  # the stack's own settings have to say it
    return Stack(endpoint, tmp_path)


def test_a_stack_from_nothing_to_nothing(stack: Stack) -> None:
    text = FILE.format(endpoint=stack.endpoint)

    created = stack.apply(text)
    assert set(created.values()) == {"create"}
    assert stack.notified() == {"uploads": "shop-aws-uploads", "texts": "shop-aws-texts"}
    assert stack.client("iam").get_role(RoleName="shop-aws-consumer-work")
    secret = json.loads(stack.client("secretsmanager").get_secret_value(SecretId="shop-aws-orders")["SecretString"])
    (server,) = stack.client("rds").describe_db_instances()["DBInstances"]
    assert (secret["host"], secret["username"], secret["dbname"]) == (
        server["Endpoint"]["Address"],
        server["MasterUsername"],
        server["DBName"],
    )
    assert len(secret["password"]) == 32

    assert stack.apply(text) == {}
    assert stack.refresh(text) == {}

    edited = text.replace("suffix: .txt", "suffix: .md").replace("{type: queue}", "{type: queue, lease: 2m}")
    edited = edited.replace(', cors: {origins: ["*"]}', "").replace("country: [de, at]", "country: [de]")
    assert stack.apply(edited) == {
        "BucketNotification images": "update",
        "Queue incoming": "update",
        "TopicSubscription reader": "update",
        "BucketCorsConfiguration images": "delete",
    }

    renamed = edited.replace("suffix: .md", "suffix: .md, name: notes")
    assert stack.apply(renamed)["Queue texts"] in ("replace", "create-replacement", "delete-replaced")
    assert stack.notified() == {"uploads": "shop-aws-uploads", "texts": "notes"}

    fewer = renamed.replace("  texts: {type: file_change_stream, bucket: images, suffix: .md, name: notes}\n", "")
    changes = stack.apply(fewer)
    assert changes["BucketNotification images"] == "update"
    assert changes["S3FileChangeStream texts"] == "delete"
    assert stack.notified() == {"uploads": "shop-aws-uploads"}

    assert set(stack.destroy(fewer).values()) == {"delete"}
    assert stack.client("s3").list_buckets()["Buckets"] == []
    assert "QueueUrls" not in stack.client("sqs").list_queues()
    assert stack.client("iam").list_roles()["Roles"] == []


MANY = 40


def test_what_a_role_s_own_policy_has_no_room_for_is_attached(stack: Stack) -> None:
    """Topics with long names: what is allowed on them is longer than a role's own policy may be."""
    keys = [f"topic_{n}" for n in range(MANY)]
    head = FILE.format(endpoint=stack.endpoint).partition("primitives:")[0] + "primitives:\n"
    head += "".join(f"  {key}: {{type: topic, name: {key:x<230}}}\n" for key in keys) + "routes:\n"
    routes = [f"  POST /{key}: {{sink: {key}}}\n" for key in keys]
    iam = stack.client("iam")

    def allowed() -> list[str]:
        attached = iam.list_attached_role_policies(RoleName="shop-aws-routes")["AttachedPolicies"]
        return sorted(p["PolicyName"] for p in attached)

    def own() -> list[str]:
        return list(iam.list_role_policies(RoleName="shop-aws-routes")["PolicyNames"])

    stack.apply(head + "".join(routes))
    assert own() == []
    assert len(allowed()) > 1
    stack.apply(head + routes[0])
    assert (own(), allowed()) == (["shop-aws-routes"], [])
    stack.destroy(head + routes[0])
    assert iam.list_policies(Scope="Local")["Policies"] == []


def test_each_server_leaves_a_last_snapshot_of_its_own(stack: Stack) -> None:
    """One that replaces another has the same name, and RDS takes no second snapshot of one name."""
    text = FILE.format(endpoint=stack.endpoint).partition("primitives:")[0] + "primitives:\n"
    text += "  orders: {type: database, deletion_protection: false, user: USER}\n"

    def snapshots() -> list[str]:
        found = stack.client("rds").describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]
        return [s["DBSnapshotIdentifier"] for s in found]

    for count, user in enumerate(("anna", "berta", "clara")):
        stack.apply(text.replace("USER", user))
        assert len(snapshots()) == count
    stack.destroy(text.replace("USER", "clara"))
    assert len(snapshots()) == 3
    assert all(name.startswith("shop-aws-orders-final-") for name in snapshots())
