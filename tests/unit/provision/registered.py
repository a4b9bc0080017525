"""What a stack's program registers: run through the real Pulumi SDK, with an engine that writes everything down."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks, mocks, rpc, set_mocks, settings
from pulumi.runtime.stack import run_in_stack

from buildflow.compiler import Compilation, compile_file
from buildflow.providers.secrets import SecretResolver

ACCOUNT = "123456789012"
FOUND: dict[str, Any] = {
    "aws:index/getCallerIdentity:getCallerIdentity": {"accountId": ACCOUNT, "arn": f"arn:aws:iam::{ACCOUNT}:user/me"},
    "aws:index/getRegion:getRegion": {"region": "eu-west-1"},
    "aws:index/getPartition:getPartition": {"partition": "aws", "dnsSuffix": "amazonaws.com"},
    "aws:ec2/getVpc:getVpc": {"id": "vpc-1", "cidrBlock": "172.31.0.0/16"},
    "aws:ec2/getSubnet:getSubnet": {"id": "subnet-7", "vpcId": "vpc-7"},
    "aws:ec2/getSubnets:getSubnets": {"ids": ["subnet-2", "subnet-1"]},
}
"""What AWS answers to the look-ups that every program may make."""


@dataclass
class Registered:
    """One resource, as the engine is asked for it."""

    type: str
    name: str
    inputs: dict[str, Any]
    parent: str
    provider: str
    protect: bool
    delete_before_replace: bool
    depends_on: list[str]


@dataclass
class Engine(mocks.MockMonitor):
    """Answers as AWS would, and keeps what it was asked for."""

    found: Mapping[str, Any]
    resources: dict[str, Any] = field(default_factory=dict)
    registered: list[Registered] = field(default_factory=list)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(Cloud(self.found))

    def RegisterResource(self, request: Any) -> Any:
        if request.type != "pulumi:pulumi:Stack":
            inputs = plain(rpc.deserialize_properties(request.object, keep_unknowns=True))
            self.registered.append(
                Registered(
                    type=request.type,
                    name=request.name,
                    inputs=inputs,
                    parent=short(request.parent),
                    provider=request.provider.partition("::")[2].rpartition("::")[0].rpartition("::")[2],
                    protect=request.protect,
                    delete_before_replace=request.deleteBeforeReplace,
                    depends_on=sorted(short(urn) for urn in request.dependencies),
                )
            )
        return super().RegisterResource(request)

    def RegisterResourceOutputs(self, request: Any) -> Any:
        self.outputs[short(request.urn)] = plain(rpc.deserialize_properties(request.outputs))
        return super().RegisterResourceOutputs(request)


class Cloud(Mocks):
    """Gives each resource the id and the properties that AWS gives it."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self.found = found

    def call(self, args: MockCallArgs) -> Any:
        answer = self.found.get(args.token, FOUND.get(args.token))
        if answer is None:
            return {}, [("", f"reading {args.token}: couldn't find resource")]
        return answer(args.args) if callable(answer) else answer

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        given = {**args.inputs}
        name = str(next((given[k] for k in ("bucket", "name", "identifier") if k in given), args.name))
        return name, {**given, **GIVEN.get(args.typ, lambda _: {})(name)}


GIVEN: dict[str, Callable[[str], dict[str, Any]]] = {
    "aws:s3/bucket:Bucket": lambda name: {"arn": f"arn:aws:s3:::{name}", "region": "eu-west-1"},
    "aws:sqs/queue:Queue": lambda name: {
        "arn": f"arn:aws:sqs:eu-west-1:{ACCOUNT}:{name}",
        "url": f"https://sqs.eu-west-1.amazonaws.com/{ACCOUNT}/{name}",
    },
    "aws:sns/topic:Topic": lambda name: {"arn": f"arn:aws:sns:eu-west-1:{ACCOUNT}:{name}"},
    "aws:iam/role:Role": lambda name: {"arn": f"arn:aws:iam::{ACCOUNT}:role/{name}"},
    "aws:rds/instance:Instance": lambda name: {
        "arn": f"arn:aws:rds:eu-west-1:{ACCOUNT}:db:{name}",
        "address": f"{name}.abc.eu-west-1.rds.amazonaws.com",
    },
    "aws:secretsmanager/secret:Secret": lambda name: {
        "arn": f"arn:aws:secretsmanager:eu-west-1:{ACCOUNT}:secret:{name}-AbCdEf"
    },
    "random:index/randomPassword:RandomPassword": lambda _: {"result": "generated"},
    "random:index/randomString:RandomString": lambda _: {"result": "0badcafe"},
}


def short(urn: str) -> str:
    """Type and name of a resource, without the stack and its parents."""
    kind, _, name = urn.removeprefix("urn:pulumi:").partition("::")[2].partition("::")[2].partition("::")
    return "" if kind == "pulumi:pulumi:Stack" else f"{kind.rpartition('$')[2]} {name}"


def plain(value: Any) -> Any:
    """Values as JSON; what Pulumi keeps secret says so."""
    if rpc.is_rpc_secret(value):
        return {"secret": plain(rpc.unwrap_rpc_secret(value))}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def compiled(text: str, folder: Path, *, stack: str = "aws") -> Compilation:
    """A project's file; raises AssertionError with its mistakes."""
    (folder / "buildflow.yaml").write_text(text)
    compilation = compile_file(folder / "buildflow.yaml", stack=stack, environment={})
    assert compilation.ok, [d.message for d in compilation.diagnostics]
    return compilation


def registered(compilation: Compilation, *, found: Mapping[str, Any] | None = None, **secrets: str) -> Engine:
    """Run a stack's program. `found` is what AWS answers to look-ups, by the token of the function."""
    from buildflow.provision.cloud.program import program

    resolver = SecretResolver([_Given(secrets)])
    plan = compilation.plan
    blocks = {provider: resolver.put_in(block) for provider, block in plan.settings.items()}
    resolve = lambda text: str(resolver.put_in({"": text})[""])  # noqa: E731
    return run(program(compilation.graph, plan, blocks, resolve), plan.project, plan.stack, found or {})


def run(declare: Callable[[], None], project: str, stack: str, found: Mapping[str, Any]) -> Engine:
    engine = Engine(found)
    loops: list[asyncio.AbstractEventLoop] = []

    def open_loop() -> None:
        """Pulumi's mocks need one in each thread that answers, and close none."""
        loops.append(asyncio.new_event_loop())
        asyncio.set_event_loop(loops[-1])

    async def program() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(8, initializer=open_loop))
        set_mocks(engine.mocks, project, stack, monitor=engine)
        settings.set_root_resource(None)  # type: ignore[arg-type]  # `run_in_stack` makes its own
        await run_in_stack(declare)

    settings.reset_options()
    try:
        asyncio.run(program())
    finally:
        for loop in loops:
            loop.close()
    return engine


@dataclass
class _Given:
    """Secrets of a test."""

    secrets: Mapping[str, str]

    def get(self, name: str) -> str | None:
        return self.secrets.get(name)

    def place(self, name: str) -> str:
        return "the test"
