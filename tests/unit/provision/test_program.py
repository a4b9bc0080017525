"""What a stack on AWS declares to Pulumi, through the SDK's real classes: a folder of tests/golden_aws a case.

BUILDFLOW_UPDATE_GOLDEN=1 writes what each case expects.
"""

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from buildflow.compiler import compile_file
from buildflow.errors import BuildflowError
from buildflow.primitives.registry import all_primitives
from tests.unit.provision.registered import ACCOUNT, Engine, Registered, compiled, registered

CASES = sorted(p.parent for p in (Path(__file__).parents[2] / "golden_aws").glob("*/buildflow.yaml"))
SECRETS = {"KEY": "the-key", "TOKEN": "the-token", "ORDERS_PASSWORD": "the-password"}
FOUND: dict[str, Any] = {
    "aws:s3/getBucket:getBucket": lambda given: {
        "bucket": given["bucket"],
        "arn": f"arn:aws:s3:::{given['bucket']}",
        "bucketRegion": "eu-west-1",
    },
    "aws:sqs/getQueue:getQueue": lambda given: {
        "name": given["name"],
        "arn": f"arn:aws:sqs:eu-west-1:{ACCOUNT}:{given['name']}",
        "url": f"https://sqs.eu-west-1.amazonaws.com/{ACCOUNT}/{given['name']}",
    },
    "aws:sns/getTopic:getTopic": lambda given: {
        "name": given["name"],
        "arn": f"arn:aws:sns:eu-west-1:{ACCOUNT}:{given['name']}",
    },
    "aws:rds/getInstance:getInstance": lambda given: {
        "address": "theirs.abc.eu-west-1.rds.amazonaws.com",
        "port": 5432,
        "dbName": "theirs",
        "masterUsername": "boss",
        "dbInstanceArn": f"arn:aws:rds:eu-west-1:{ACCOUNT}:db:theirs",
        "masterUserSecrets": [{"secretArn": "arn:aws:secretsmanager:eu-west-1:1:secret:rds-1"}],
    },
}


def of(engine: Engine, type: str) -> list[Registered]:
    return [r for r in engine.registered if r.type.endswith(f":{type}")]


def one(engine: Engine, type: str) -> Registered:
    (found,) = of(engine, type)
    return found


def snapshot(case: Path) -> dict[str, Any]:
    compilation = compile_file(case / "buildflow.yaml", stack="aws", environment={})
    assert compilation.ok, [d.message for d in compilation.diagnostics]
    engine = registered(compilation, found=FOUND, **SECRETS)
    ordered = sorted(engine.registered, key=lambda r: (r.parent, r.type, r.name))
    return {"resources": [_shown(r) for r in ordered], "exports": engine.outputs[""]}


def _shown(resource: Registered) -> dict[str, Any]:
    """Without what is as usual; policies as the documents that they are."""
    values = {key: value for key, value in dataclasses.asdict(resource).items() if value}
    inputs = {name: _document(value) for name, value in sorted(resource.inputs.items())}
    return {**values, "inputs": inputs} if inputs else values


def _document(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("{"):
        return {"json": json.loads(value)}
    return value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_registered(case: Path) -> None:
    text = json.dumps(snapshot(case), indent=1, sort_keys=True) + "\n"
    expected = case / "registered.json"
    if os.environ.get("BUILDFLOW_UPDATE_GOLDEN"):
        expected.write_text(text)
    assert expected.read_text() == text


def options(body: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The way to each value of a primitive's body."""
    if not isinstance(body, dict):
        return [path]
    return [found for key, inner in body.items() for found in options(inner, (*path, key))]


def without(body: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    first, *rest = path
    if not rest:
        return {key: value for key, value in body.items() if key != first}
    return {**body, first: without(body[first], tuple(rest))}


EVERYTHING = {
    "bucket_with_everything": "images",
    "file_change_streams_of_one_bucket": "uploads",
    "queue_with_everything": "incoming",
    "topic_that_is_fifo": "orders",
    "topic_and_subscriptions": "shipping",
    "database_with_everything": "orders",
}
"""The cases where a primitive has all its options."""
NEEDED = {"type", "bucket", "topic", "origins"}
NEVER_ALONE = {(type, *path) for type in ("queue", "topic") for path in (("name",), ("aws", "fifo"))} | {
    ("subscription", "aws", "fifo")
}
"""A FIFO name ends with .fifo, and no other does; a subscription is what its topic is, where it does not say."""
OF_THE_RUN_TIME = {
    "bucket": {("object",), ("format",), ("columns",)},
    "file_change_stream": set(),
    "queue": {("message",), ("aws", "account_id")},
    "topic": {("message",), ("retention",)},
    "subscription": {("batch_size",), ("include_attributes",)},
    "database": {("table",), ("columns",), ("upsert",), ("instance",)},
}
"""What declares nothing of its own on AWS."""


def cases() -> dict[str, dict[str, Any]]:
    return {case.name: yaml.safe_load((case / "buildflow.yaml").read_text()) for case in CASES}


def each_option() -> list[Any]:
    return [
        pytest.param(file, key, path, id=f"{type}-{'.'.join(path)}")
        for name, key in EVERYTHING.items()
        for file in [cases()[name]]
        for type in [file["primitives"][key]["type"]]
        for path in options(file["primitives"][key])
        if path[-1] not in NEEDED and (type, *path) not in NEVER_ALONE
    ]


@pytest.mark.parametrize(("file", "key", "path"), each_option())
def test_no_option_is_without_effect(file: dict[str, Any], key: str, path: tuple[str, ...], tmp_path: Path) -> None:
    def declared(body: dict[str, Any]) -> list[str]:
        text = json.dumps({**file, "primitives": {**file["primitives"], key: body}})
        engine = registered(compiled(text, tmp_path), found=FOUND, **SECRETS)
        return sorted(repr(resource) for resource in engine.registered)

    whole = file["primitives"][key]
    assert declared(without(whole, path)) != declared(whole)


def fields(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The way to each option of a Spec that means something on AWS."""
    for name, field in model.model_fields.items():
        if not path and name in ("type", "provider", "managed", "local", "gcp"):
            continue
        inner = next((t for t in (field.annotation, *get_args(field.annotation)) if _is_model(t)), None)
        yield from fields(inner, (*path, name)) if inner else [(*path, name)]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def test_every_option_is_in_a_case() -> None:
    for name, key in EVERYTHING.items():
        body = cases()[name]["primitives"][key]
        wanted = set(fields(all_primitives()[body["type"]].spec)) - OF_THE_RUN_TIME[body["type"]]
        shown = {way for path in options(body) for way in (path, path[:1], path[:2])}
        assert wanted <= shown, body["type"]


STACK = "project: shop\nstacks: {aws: {provider: aws, aws: {region: eu-west-1}}}\nprimitives:\n"


def stack(tmp_path: Path, *primitives: str, **more: Any) -> Engine:
    return registered(compiled(STACK + "\n".join(f"  {p}" for p in primitives), tmp_path), **more)


def test_a_bucket_has_one_notification_after_every_policy(tmp_path: Path) -> None:
    """S3 asks each queue's policy when the notification is put; a second notification would replace the first."""
    engine = stack(
        tmp_path,
        "images: {type: bucket}",
        "pictures: {type: file_change_stream, bucket: images, suffix: .png}",
        "texts: {type: file_change_stream, bucket: images, suffix: .txt}",
    )
    notification = one(engine, "BucketNotification")
    assert notification.parent == "buildflow:aws:S3Bucket images"
    assert [q["id"] for q in notification.inputs["queues"]] == ["pictures", "texts"]
    policies = {f"aws:sqs/queuePolicy:QueuePolicy {key}" for key in ("pictures", "texts")}
    assert policies < set(notification.depends_on)


def test_a_stream_lets_in_its_bucket_alone(tmp_path: Path) -> None:
    engine = stack(tmp_path, "images: {type: bucket}", "uploads: {type: file_change_stream, bucket: images}")
    (statement,) = json.loads(one(engine, "QueuePolicy").inputs["policy"])["Statement"]
    assert statement["Principal"] == {"Service": "s3.amazonaws.com"}
    assert statement["Condition"] == {
        "ArnEquals": {"aws:SourceArn": "arn:aws:s3:::shop-aws-images"},
        "StringEquals": {"aws:SourceAccount": ACCOUNT},
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("prefix: raw/", "prefix: done/"),
        ("suffix: .gz", "suffix: .zip"),
        ("prefix: a/, suffix: .png", "prefix: a/, suffix: .jpg"),
        ("events: [created]", "events: [deleted]"),
    ],
)
def test_streams_that_s3_takes(one: str, other: str, tmp_path: Path) -> None:
    engine = stack(
        tmp_path,
        "images: {type: bucket}",
        f"a: {{type: file_change_stream, bucket: images, {one}}}",
        f"b: {{type: file_change_stream, bucket: images, {other}}}",
    )
    assert len(of(engine, "BucketNotification")) == 1


def test_the_redrive_queue_stands_above_the_platforms_attempts(tmp_path: Path) -> None:
    engine = stack(tmp_path, "incoming: {type: queue}")
    queue, redrive = sorted(of(engine, "Queue"), key=lambda r: r.name)
    policy = json.loads(queue.inputs["redrivePolicy"])
    assert policy["maxReceiveCount"] == 1000
    assert policy["deadLetterTargetArn"].endswith(":shop-aws-incoming-redrive")
    assert redrive.inputs["messageRetentionSeconds"] == 14 * 86400
    allowed = json.loads(one(engine, "RedriveAllowPolicy").inputs["redriveAllowPolicy"])
    assert allowed == {
        "redrivePermission": "byQueue",
        "sourceQueueArns": [f"arn:aws:sqs:eu-west-1:{ACCOUNT}:shop-aws-incoming"],
    }


@pytest.mark.parametrize("fifo", ["true", "false"])
def test_no_name_is_longer_than_its_service_takes(fifo: str, tmp_path: Path) -> None:
    key = "a_key_of_many_words_that_goes_on_and_on_and_on_until_nobody_can_remember_how_it_began"
    engine = stack(
        tmp_path,
        f"{key}: {{type: queue, aws: {{fifo: {fifo}}}}}",
        f"topic_{key}: {{type: topic, aws: {{fifo: {fifo}}}}}",
        f"read_{key}: {{type: subscription, topic: topic_{key}}}",
    )
    names = [r.inputs["name"] for r in of(engine, "Queue")]
    assert len(set(names)) == 4
    assert max(len(name) for name in names) == 80
    assert all(name.endswith(".fifo") == (fifo == "true") for name in names)


def test_what_exists_is_looked_up_and_told_when_it_does_not(tmp_path: Path) -> None:
    for body, words in (
        ("type: bucket", r'S3Bucket s3://theirs \("x"\)'),
        ("type: queue", r'SQSQueue sqs://theirs \("x"\)'),
        ("type: topic", r'SNSTopic sns://theirs \("x"\)'),
        ("type: database", r'RDSDatabase rds://theirs \("x"\)'),
    ):
        with pytest.raises(BuildflowError, match=rf"^{words} is not managed here, and does not exist$") as caught:
            stack(tmp_path, f"x: {{{body}, managed: false, name: theirs}}")
        assert caught.value.hint == "create it, or drop `managed: false`"


def test_a_look_up_that_fails_is_not_taken_for_an_absence(tmp_path: Path) -> None:
    def denied(_: Any) -> Any:
        return {}, [("", "AccessDenied: not authorized to perform s3:ListBucket")]

    with pytest.raises(BuildflowError, match=r"cannot be looked up: .*AccessDenied"):
        stack(
            tmp_path,
            "x: {type: bucket, managed: false, name: theirs}",
            found={"aws:s3/getBucket:getBucket": denied},
        )


def test_a_region_without_a_network_is_told(tmp_path: Path) -> None:
    def none(_: Any) -> Any:
        return {}, [("", "no matching EC2 VPC found")]

    with pytest.raises(BuildflowError, match='"orders" has no place: the region has no default network') as caught:
        stack(tmp_path, "orders: {type: database}", found={"aws:ec2/getVpc:getVpc": none})
    assert "subnets" in caught.value.hint


def test_secrets_are_marked(tmp_path: Path) -> None:
    """No plan and no state shows a password or a key."""
    text = STACK.replace("region: eu-west-1", 'region: eu-west-1, aws_secret_access_key: "${secret.KEY}"')
    compilation = compiled(text + '  orders: {type: database, password: "${secret.ORDERS_PASSWORD}"}', tmp_path)
    engine = registered(compilation, **SECRETS)
    clear = json.dumps([_clear(r.inputs) for r in engine.registered]) + json.dumps(engine.outputs)
    assert one(engine, "Instance").inputs["password"] == {"secret": "the-password"}
    assert "the-password" not in clear
    assert "the-key" not in clear


def _clear(value: Any) -> Any:
    """Without what is secret."""
    if isinstance(value, dict):
        return {k: _clear(v) for k, v in value.items() if k != "secret"}
    return [_clear(v) for v in value] if isinstance(value, list) else value


def test_only_what_holds_data_is_protected(tmp_path: Path) -> None:
    """Else no rule of a protected bucket could be taken away."""
    engine = stack(
        tmp_path,
        "images: {type: bucket, deletion_protection: true}",
        "orders: {type: database}",
        "drafts: {type: database, deletion_protection: false}",
    )
    assert sorted(f"{r.type.rpartition(':')[2]} {r.name}" for r in engine.registered if r.protect) == [
        "Bucket images",
        "Instance orders",
    ]
    assert {r.name: r.inputs["deletionProtection"] for r in of(engine, "Instance")} == {"orders": True, "drafts": False}


def test_everything_of_a_primitive_is_tagged(tmp_path: Path) -> None:
    engine = stack(tmp_path, "orders: {type: database}", "incoming: {type: queue}", "images: {type: bucket}")
    tags = {"buildflow:project": "shop", "buildflow:stack": "aws"}
    taggable = ("Instance", "SubnetGroup", "SecurityGroup", "Secret", "Queue", "Bucket")
    found = [r for type in taggable for r in of(engine, type)]
    assert len(found) == 7
    for resource in found:
        assert resource.inputs["tags"] == {**tags, "buildflow:key": resource.name.removesuffix("-redrive")}


def test_two_stacks_never_meet(tmp_path: Path) -> None:
    """Every physical name bears the project and the stack."""
    text = (Path(__file__).parents[2] / "golden_aws/identities/buildflow.yaml").read_text()
    (tmp_path / "app.py").write_text((Path(__file__).parents[2] / "golden_aws/identities/app.py").read_text())
    text = text.replace("  aws:\n", "  tests: {provider: aws, aws: {region: eu-west-1}}\n  aws:\n", 1)
    names = []
    for stack_name in ("aws", "tests"):
        engine = registered(compiled(text, tmp_path, stack=stack_name))
        inputs = [r.inputs for r in engine.registered if not r.type.startswith("buildflow:")]
        names.append(
            {i[k] for i in inputs for k in ("name", "bucket", "identifier", "finalSnapshotIdentifier") if k in i}
        )
    assert len(names[0]) > 10
    assert names[0].isdisjoint(names[1])


def test_a_stack_with_nothing_on_aws_declares_nothing(tmp_path: Path) -> None:
    compilation = compiled("project: shop\nstacks: {local: {provider: local}}\n", tmp_path, stack="local")
    assert registered(compilation).registered == []


def test_the_image_app(tmp_path: Path) -> None:
    """The project's own file, as it is: its bucket and its stream are the cloud's, its tables are not."""
    compilation = compile_file(Path(__file__).parents[3] / "buildflow.yaml", stack="aws", environment={})
    assert compilation.ok, [d.message for d in compilation.diagnostics]
    engine = registered(compilation)
    components = [(r.type, r.name) for r in engine.registered if r.type.startswith("buildflow:")]
    assert sorted(components) == [
        ("buildflow:aws:Identity", "consumer-classify_image"),
        ("buildflow:aws:Identity", "routes"),
        ("buildflow:aws:S3Bucket", "images"),
        ("buildflow:aws:S3FileChangeStream", "uploads"),
    ]
    allowed = {
        r.name: [(s["Action"], s["Resource"]) for s in json.loads(r.inputs["policy"])["Statement"]]
        for r in of(engine, "RolePolicy")
    }
    bucket = "arn:aws:s3:::image-classification-aws-images"
    objects = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
    assert allowed["routes"] == [(objects, [f"{bucket}/*"]), (["s3:ListBucket"], [bucket])]
