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
