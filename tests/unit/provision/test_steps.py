"""What the engine's events mean for the primitives: what becomes of each, and of the roles."""

import json
from typing import Any

import pytest
from pulumi.automation.events import StepEventMetadata

from buildflow.provision.cloud.changes import verb_of
from buildflow.provision.cloud.identities import role_changes
from buildflow.provision.cloud.steps import Step, Steps

STACK = "urn:pulumi:aws::shop::pulumi:pulumi:Stack::shop-aws"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


def urn(type: str, name: str) -> str:
    return f"urn:pulumi:aws::shop::{type}::{name}"


def event(op: str, type: str, name: str, parent: str = STACK, **more: Any) -> StepEventMetadata:
    """One event; `old` and `new` are inputs, `outputs` those of the old state, `provider` that of the new one."""
    known = {"type": type, "urn": urn(type, name), "id": "", "parent": parent}
    old, new = more.get("old"), more.get("new")
    states = {
        "old": None if old is None else {**known, "inputs": old, "outputs": more.get("outputs", {})},
        "new": None if new is None else {**known, "inputs": new, "provider": more.get("provider", "")},
    }
    paths = {path: {"diffKind": "update", "inputDiff": True} for path in more.get("paths", ())}
    data = {"op": op, "urn": known["urn"], "type": type, "provider": "", "detailedDiff": paths, **states}
    return StepEventMetadata.from_json(data)


def component(label: str, *children: tuple[str, str, str]) -> list[Step]:
    """The steps of a component `a` that stays, whose children are (operation, type, name)."""
    steps, parent = Steps(), urn(f"buildflow:aws:{label}", "a")
    steps.add(event("same", f"buildflow:aws:{label}", "a", old={}, new={}))
    for op, type, name in children:
        steps.add(event(op, type, name, parent, old=None if op == "create" else {}, new={}))
    return steps.by_component()["a", label]


QUEUE, TOPIC, ALLOW = "aws:sqs/queue:Queue", "aws:sns/topic:Topic", "aws:sqs/redriveAllowPolicy:RedriveAllowPolicy"


@pytest.mark.parametrize(
    ("label", "children", "verb"),
    [
        ("SQSQueue", [("create", QUEUE, "a"), ("update", ALLOW, "a-redrive")], "create"),
        ("SQSQueue", [("same", QUEUE, "a"), ("create", QUEUE, "a-redrive")], "update"),
        ("SNSTopic", [("replace", TOPIC, "a")], "replace"),
        ("SNSSubscription", [("replace", "aws:sns/topicSubscription:TopicSubscription", "a")], "update"),
        ("SQSQueue", [("same", QUEUE, "a")], None),
    ],
)
def test_what_a_component_is_for_decides_what_becomes_of_it(
    label: str, children: list[tuple[str, str, str]], verb: str | None
) -> None:
    assert verb_of(component(label, *children)) == verb


def test_where_nothing_else_is_said_a_resource_is_in_its_providers_region() -> None:
    steps, provider = Steps(), "pulumi:providers:aws"
    steps.add(event("create", provider, "aws-eu-west-1", new={"region": "eu-west-1"}))
    moved = {"outputs": {"region": "us-east-1"}, "paths": ["region"]}
    by = f"{urn(provider, 'aws-eu-west-1')}::id"
    step = steps.add(event("replace", QUEUE, "a", old={}, new={}, provider=by, **moved))
    assert step.fields == ("region: us-east-1 -> eu-west-1",)


def test_what_a_preview_cannot_know_is_said_so() -> None:
    changed = event("update", QUEUE, "a", old={"kmsMasterKeyId": "k"}, new={"kmsMasterKeyId": UNKNOWN})
    changed.detailed_diff, changed.diffs = None, ["kmsMasterKeyId"]
    assert Steps().add(changed).fields == ("kmsMasterKeyId: k -> (known after apply)",)


def policy(actions: list[str], arn: str) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": arn}]})


def of_role(after: str, anew: list[str]) -> list[str]:
    steps, type = Steps(), "aws:iam/rolePolicy:RolePolicy"
    before = policy(["s3:GetObject", "s3:PutObject"], "arn:aws:s3:::a/*")
    step = steps.add(event("update", type, "routes", old={"policy": before}, new={"policy": after}, paths=["policy"]))
    return list(role_changes("routes", "update", [step], anew))


def test_a_roles_change_says_what_widens_and_narrows() -> None:
    assert of_role(policy(["s3:GetObject", "s3:ListBucket"], "arn:aws:s3:::a/*"), []) == [
        "routes may now s3:ListBucket on arn:aws:s3:::a/*",
        "routes may no longer s3:PutObject on arn:aws:s3:::a/*",
    ]


def test_a_role_whose_arns_alone_change_may_do_the_same() -> None:
    (words,) = of_role(UNKNOWN, ["files"])
    assert words == "routes may do the same as before, with what files becomes: only the ARNs change"
    assert of_role(UNKNOWN, []) == ["routes: its role is updated (RolePolicy.policy: changed)"]
