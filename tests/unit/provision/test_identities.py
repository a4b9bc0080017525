"""What each route group and consumer may do: exactly what its edges need."""

import json
from pathlib import Path
from typing import Any

import pytest

from buildflow.compiler import compile_file
from buildflow.errors import BuildflowError
from buildflow.ir.runtime import ConsumerPlan, RuntimePlan
from buildflow.primitives.base import Grant
from buildflow.provision.cloud.identities import Identity, identities, permission_changes, permissions
from tests.unit.provision.registered import compiled, registered

TAKE = [
    "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ReceiveMessage",
]
SEND = ["sqs:SendMessage"]
WRITE = ["s3:AbortMultipartUpload", "s3:PutObject"]
HANDLE = ["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
SECRET = ["secretsmanager:GetSecretValue"]

PRIMITIVES = """
  images: {type: bucket}
  uploads: {type: file_change_stream, bucket: images}
  incoming: {type: queue}
  outgoing: {type: queue}
  news: {type: topic}
  reader: {type: subscription, topic: news}
  orders: {type: database, table: orders, columns: {id: integer}}
  archive: {type: file, path: "orders/{id}.jsonl", bucket: images}
"""
APP = """
from buildflow.types import Bucket, Database, FileChangeEvent, Queue, Topic

class Gallery:
    def __init__(self, images: Bucket): ...
class Shop:
    def __init__(self, gallery: Gallery, orders: Database): ...
def nothing() -> str: ...
def take(order: dict) -> None: ...
def see(event: FileChangeEvent) -> dict: ...
def give(order: dict) -> dict: ...
def keep(order: dict, images: Bucket) -> None: ...
def sell(order: dict, shop: Shop) -> None: ...
def tell(order: dict, news: Topic, outgoing: Queue) -> None: ...
def show(gallery: Gallery) -> str: ...
def allowed(orders: Database) -> str: ...
"""
FILE = f"""
project: shop
stacks: {{aws: {{provider: aws, aws: {{region: eu-west-1}}}}}}
primitives: {PRIMITIVES}
dependencies:
  gallery: {{factory: app:Gallery}}
  shop: {{factory: app:Shop}}
  allowed: {{factory: app:allowed, scope: request}}
  unused: {{factory: app:Gallery}}
"""

EDGES = {
    "a queue is taken from": ("{source: incoming, handler: app:take}", {"incoming": TAKE}),
    "a subscription is taken from": ("{source: reader, handler: app:take}", {"reader": TAKE}),
    "a stream's objects are read": (
        "{source: uploads, handler: app:see}",
        {"uploads": TAKE, "images/*": ["s3:GetObject"], "images": ["s3:ListBucket"]},
    ),
    "a queue is sent to": (
        "{source: incoming, handler: app:give, sink: outgoing}",
        {"incoming": TAKE, "outgoing": SEND},
    ),
    "a topic is published to": (
        "{source: incoming, handler: app:give, sink: news}",
        {"incoming": TAKE, "news": ["sns:Publish"]},
    ),
    "a bucket is written to": (
        "{source: incoming, handler: app:give, sink: images}",
        {"incoming": TAKE, "images/*": WRITE},
    ),
    "a file is kept in its bucket": (
        "{source: incoming, handler: app:give, sink: archive}",
        {
            "incoming": TAKE,
            "images/*": ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"],
            "images": ["s3:ListBucket"],
        },
    ),
    "a database is signed in to": (
        "{source: incoming, handler: app:give, sink: orders}",
        {"incoming": TAKE, "orders secret_arn": SECRET},
    ),
    "each of several sinks": (
        "{source: incoming, handler: app:give, sink: [{to: outgoing, when: {a: 1}}, {to: news}]}",
        {"incoming": TAKE, "outgoing": SEND, "news": ["sns:Publish"]},
    ),
    "a handle reads, writes and lists": (
        "{source: incoming, handler: app:keep}",
        {"incoming": TAKE, "images/*": HANDLE, "images": ["s3:ListBucket"]},
    ),
    "a sink and a handle of one bucket": (
        "{source: incoming, handler: app:keep, sink: images}",
        {"incoming": TAKE, "images/*": HANDLE, "images": ["s3:ListBucket"]},
    ),
    "handles send": (
        "{source: incoming, handler: app:tell}",
        {"incoming": TAKE, "outgoing": SEND, "news": ["sns:Publish"]},
    ),
    "what dependencies of dependencies need": (
        "{source: incoming, handler: app:sell}",
        {"incoming": TAKE, "images/*": HANDLE, "images": ["s3:ListBucket"], "orders secret_arn": SECRET},
    ),
}


def project(tmp_path: Path, *parts: str, file: str = FILE) -> tuple[Identity, ...]:
    (tmp_path / "app.py").write_text(APP)
    compilation = compiled("\n".join((file, *parts)), tmp_path)
    return identities(compilation.plan, compilation.graph)


def allowed(identity: Identity) -> dict[str, list[str]]:
    """Actions by what they are allowed on."""
    return {f"{g.of}{g.below}{'' if g.on == 'arn' else f' {g.on}'}": list(g.actions) for g in identity.grants}


@pytest.mark.parametrize(("consumer", "expected"), EDGES.values(), ids=EDGES.keys())
def test_a_consumer_gets_what_its_edges_need(consumer: str, expected: dict[str, list[str]], tmp_path: Path) -> None:
    (identity,) = project(tmp_path, f"consumers: {{work: {consumer}}}")
    assert identity.key == "consumer-work"
    assert allowed(identity) == expected


def test_routes_get_what_those_of_their_service_need(tmp_path: Path) -> None:
    routes = """
services:
  api: {prefix: /api, auth: allowed}
routes:
  GET /: app:nothing
  POST /orders: {handler: app:give, sink: incoming}
  GET /api/images: {handler: app:show, service: api, auth: none}
  GET /api/orders: {handler: app:nothing, service: api}
"""
    found = {i.key: allowed(i) for i in project(tmp_path, routes)}
    assert found == {
        "routes": {"incoming": SEND},
        "routes-api": {"images/*": HANDLE, "images": ["s3:ListBucket"], "orders secret_arn": SECRET},
    }


def test_an_identity_that_needs_nothing_has_a_role_and_no_policy(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    engine = registered(compiled(FILE + "routes: {GET /: app:nothing}", tmp_path))
    assert [r.name for r in engine.registered if r.type == "aws:iam/role:Role"] == ["routes"]
    assert [r.name for r in engine.registered if r.type == "aws:iam/rolePolicy:RolePolicy"] == []


def test_dead_letters_in_the_cloud_may_be_written(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    compilation = compiled(FILE + "consumers: {work: {source: incoming, handler: app:take}}", tmp_path)
    (consumer,) = compilation.plan.consumers
    dead = consumer.model_copy(update={"dead_letter": "images"})
    (identity,) = identities(_with(compilation.plan, dead), compilation.graph)
    assert allowed(identity) == {"incoming": TAKE, "images/*": WRITE}


def _with(plan: RuntimePlan, consumer: ConsumerPlan) -> RuntimePlan:
    return plan.model_copy(update={"consumers": (consumer,)})


SECRETS = """
project: shop
stacks:
  aws:
    provider: aws
    aws: {region: eu-west-1, aws_secret_access_key: "${secret.OF_THE_STACK}"}
    broker_url: "redis://:${secret.BROKER}@redis:6379/0"
    STORE
primitives:
  incoming: {type: queue}
  theirs: {type: database, managed: false, password: "${secret.THEIRS}"}
  ours: {type: database, password: "${secret.OURS}"}
dependencies:
  client: {factory: app:Client, with: {token: "${secret.TOKEN}", texts: [{key: "${secret.db.password}"}]}}
  other: {factory: app:Client, with: {token: "${secret.UNUSED}", texts: []}}
services:
  web: {middleware: [{class: "app:Guard", with: {key: "${secret.GUARD}"}}]}
routes:
  GET /: {handler: app:index, service: web}
  GET /ours: app:look
consumers:
  work: {source: incoming, handler: app:work}
"""


@pytest.mark.parametrize("store", ["secrets: {store: aws_secrets_manager}", ""], ids=["in the store", "elsewhere"])
def test_the_secrets_that_are_read_and_no_others(store: str, tmp_path: Path) -> None:
    """What the stack signs in with cannot be in its own store; a managed database's secret is one of the cloud's."""
    (tmp_path / "app.py").write_text(
        "from buildflow.types import Database\n"
        "class Client:\n    def __init__(self, token, texts): ...\n"
        "class Guard:\n    def __init__(self, app, key): ...\n"
        "def index() -> str: ...\n"
        "def look(ours: Database) -> str: ...\n"
        "def work(order: dict, client: Client, theirs: Database) -> None: ...\n"
    )
    compilation = compiled(SECRETS.replace("STORE", store), tmp_path)
    found = {i.key: i.secrets for i in identities(compilation.plan, compilation.graph)}
    expected = {
        "routes-web": ("BROKER", "GUARD"),
        "routes": ("BROKER",),
        "consumer-work": ("BROKER", "THEIRS", "TOKEN", "db.password"),
    }
    assert found == (expected if store else dict.fromkeys(expected, ()))


def test_a_stack_with_nothing_on_aws_has_no_identities(tmp_path: Path) -> None:
    file = "project: shop\nstacks: {aws: {provider: local}}\nprimitives: {incoming: {type: queue}}\n"
    assert project(tmp_path, "consumers: {work: {source: incoming, handler: app:take}}", file=file) == ()


def test_what_is_elsewhere_needs_no_permission(tmp_path: Path) -> None:
    file = FILE.replace("incoming: {type: queue}", "incoming: {type: queue, provider: local}")
    (identity,) = project(tmp_path, "consumers: {work: {source: incoming, handler: app:give, sink: news}}", file=file)
    assert allowed(identity) == {"news": ["sns:Publish"]}


def test_names_bear_project_and_stack_and_fit_into_iam(tmp_path: Path) -> None:
    long = "a_consumer_with_a_name_that_nobody_wants_to_type_twice_in_one_day"
    file = FILE.replace("project: shop", "project: a-shop-for-everything-that-anybody-may-need")
    found = project(
        tmp_path,
        f"consumers: {{{long}: {{source: incoming, handler: app:take}}, "
        f"{long}s: {{source: reader, handler: app:take}}, short: {{source: uploads, handler: app:see}}}}",
        file=file,
    )
    names = [i.name for i in found]
    assert len(set(names)) == 3
    assert all(len(name) <= 64 and name.startswith("a-shop-for-everything") for name in names)


def test_no_policy_has_a_wildcard() -> None:
    """No action and no resource is `*`, no principal is anybody; every action is one that an edge asked for."""
    root = Path(__file__).parents[2] / "golden_aws"
    compilation = compile_file(root / "identities/buildflow.yaml", stack="aws", environment={})
    engine = registered(compilation)
    policies = [json.loads(r.inputs["policy"]) for r in engine.registered if "policy" in r.inputs]
    trusts = [json.loads(r.inputs["assumeRolePolicy"]) for r in engine.registered if r.type == "aws:iam/role:Role"]
    statements = [s for document in (*policies, *trusts) for s in document["Statement"]]
    assert len(policies) == 7
    assert len(trusts) == 5
    for statement in statements:
        assert statement["Effect"] == "Allow"
        assert all("*" not in action for action in _list(statement["Action"]))
        for arn in _list(statement.get("Resource", [])):
            assert arn.startswith("arn:aws:")
            assert "*" not in arn.removesuffix("/*")
        assert "*" not in json.dumps(statement.get("Principal", ""))
    asked = {a for i in identities(compilation.plan, compilation.graph) for g in i.grants for a in g.actions}
    granted = {a for d in policies for s in d["Statement"] if "Principal" not in s for a in s["Action"]}
    assert granted == asked | {"secretsmanager:GetSecretValue"}


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def test_a_change_is_told_in_words() -> None:
    def of(*some: Identity) -> dict[str, list[str]]:
        return permissions(some)

    before = Identity(
        key="consumer-save",
        name="x",
        grants=(
            Grant("incoming", ("sqs:ReceiveMessage",)),
            Grant("images", ("s3:GetObject", "s3:PutObject"), below="/*"),
        ),
        secrets=("TOKEN",),
    )
    after = Identity(
        key="consumer-save",
        name="x",
        grants=(Grant("images", ("s3:GetObject",), below="/*"), Grant("orders", tuple(SECRET), on="secret_arn")),
    )
    assert permission_changes(of(before), of(after)) == (
        "consumer-save may now secretsmanager:GetSecretValue on the secret of orders",
        "consumer-save may no longer sqs:ReceiveMessage on incoming",
        "consumer-save may no longer s3:PutObject on images/*",
        "consumer-save may no longer secretsmanager:GetSecretValue on the secret TOKEN",
    )
    assert permission_changes(of(before), of(before)) == ()
    assert permission_changes({}, of(after)) == (
        "consumer-save may now s3:GetObject on images/*",
        "consumer-save may now secretsmanager:GetSecretValue on the secret of orders",
    )
    assert permission_changes(of(after), {})[0] == "consumer-save may no longer s3:GetObject on images/*"


QUEUES = 200


def many(tmp_path: Path, count: int) -> list[Any]:
    """What a stack registers whose routes send to many queues."""
    keys = [f"queue_of_the_shop_number_{n}" for n in range(count)]
    primitives = "\n".join(f"  {key}: {{type: queue}}" for key in keys)
    routes = "\n".join(f"  POST /{key}: {{sink: {key}}}" for key in keys)
    text = (
        "project: shop\nstacks: {aws: {provider: aws, aws: {region: eu-west-1}}}\n"
        f"primitives:\n{primitives}\nroutes:\n{routes}\n"
    )
    return registered(compiled(text, tmp_path)).registered


def test_more_than_a_role_s_own_policy_may_say_is_said_in_several(tmp_path: Path) -> None:
    """A role's own policy ends at 10,240 characters, one that is attached at 6,144, and ten of these are attached."""
    found = many(tmp_path, QUEUES)
    assert [r.name for r in found if r.type == "aws:iam/rolePolicy:RolePolicy"] == []
    policies = [r for r in found if r.type == "aws:iam/policy:Policy"]
    texts = ["".join(r.inputs["policy"].split()) for r in policies]
    assert max(map(len, texts)) <= 6144
    allowed = [arn for text in texts for s in json.loads(text)["Statement"] for arn in s["Resource"]]
    assert len(allowed) == len(set(allowed)) == QUEUES
    attached = [r.inputs for r in found if r.type == "aws:iam/rolePolicyAttachment:RolePolicyAttachment"]
    assert len(attached) == len(policies) <= 10
    assert {a["role"] for a in attached} == {"shop-aws-routes"}


def test_more_than_any_role_may_be_allowed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buildflow.provision.cloud.roles._MANAGED", 1000)
    with pytest.raises(BuildflowError, match='"routes" uses more than one role can be allowed') as refused:
        many(tmp_path, QUEUES)
    assert "`services`" in refused.value.hint
