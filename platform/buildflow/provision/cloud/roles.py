"""An identity as IAM knows it: a role, and what it may do: its actions on its ARNs."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pulumi

from buildflow.errors import ResourceFailed
from buildflow.ir.graph import Resource
from buildflow.ir.runtime import RuntimePlan
from buildflow.providers.secrets import cloud_sdk
from buildflow.provision.cloud.identities import Identity

if TYPE_CHECKING:
    from buildflow.provision.cloud.program import StackProgram

iam = cloud_sdk("pulumi_aws.iam", "aws")

_TASKS = ("ecs-tasks.amazonaws.com", "pods.eks.amazonaws.com")
"""The services of AWS that run processes and say for which account."""
_INLINE, _MANAGED, _MOST = 10_240, 6_144, 10
"""The characters of a role's own policy and of a policy apart from it, and how many of these a role may have.
Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""
_LONGEST_START = len("arn:aws-us-gov:secretsmanager:ap-southeast-99:123456789012:secret:-??????")
"""Characters of an ARN beside its name, which is known before the ARN is."""
_AROUND = len(json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": [], "Resource": []}]}))

Allowed = tuple[tuple[str, ...], Any, int]
"""Actions, the ARN that they are allowed on, and how long it is at most."""


class IdentityRole(pulumi.ComponentResource):
    """The role of one identity, with the policy that says what it may do; with several where IAM takes no longer one.
    One that needs nothing has no policy."""

    def __init__(self, identity: Identity, plan: RuntimePlan, program: "StackProgram") -> None:
        options = pulumi.ResourceOptions(provider=program.provider())
        super().__init__("buildflow:aws:Identity", identity.key, None, options)
        inner = pulumi.ResourceOptions(parent=self, delete_before_replace=True)
        role = iam.Role(
            identity.key,
            name=identity.name,
            description=f"{identity.key} of {plan.project}, stack {plan.stack}",
            assume_role_policy=pulumi.Output.json_dumps(_document(_trust(program.caller))),
            tags=program.stack_tags(),
            opts=inner,
        )
        parts = _parts(list(_allowed(identity, plan, program)))
        if len(parts) == 1:
            iam.RolePolicy(identity.key, name=identity.name, role=role.name, policy=parts[0], opts=inner)
        elif len(parts) > _MOST:
            raise _too_much(identity)
        else:
            for number, part in enumerate(parts, 1):
                self._attach(f"{identity.key}-{number}", f"{identity.name}-{number}", role, part, program, inner)
        self.arn = role.arn
        self.register_outputs({"arn": role.arn, "name": role.name})

    @staticmethod
    def _attach(key: str, name: str, role: Any, part: Any, program: "StackProgram", inner: Any) -> None:
        policy = iam.Policy(key, name=name, policy=part, tags=program.stack_tags(), opts=inner)
        iam.RolePolicyAttachment(key, role=role.name, policy_arn=policy.arn, opts=inner)


def _document(statements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _trust(caller: pulumi.Output[Any]) -> list[dict[str, Any]]:
    """Who may be this identity: tasks and pods of this account, its machines, and whom the account itself lets."""
    account = caller.apply(lambda c: f"arn:{partition_of(c.arn)}:iam::{c.account_id}:root")
    return [
        {
            "Effect": "Allow",
            "Principal": {"Service": list(_TASKS)},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
            "Condition": {"StringEquals": {"aws:SourceAccount": caller.apply(lambda c: c.account_id)}},
        },
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
        {"Effect": "Allow", "Principal": {"AWS": account}, "Action": "sts:AssumeRole"},
    ]


def _parts(allowed: Sequence[Allowed]) -> list[pulumi.Output[str]]:
    """One document with all that is allowed if a role's own policy has room for it, else several shorter ones."""
    parts = _filled(allowed, _INLINE)
    return [_allowing(part) for part in (parts if len(parts) <= 1 else _filled(allowed, _MANAGED))]


def _filled(allowed: Sequence[Allowed], room: int) -> list[list[Allowed]]:
    """As many documents as it takes, none longer than `room`."""
    parts: list[list[Allowed]] = []
    left, said = 0, None
    order = list(dict.fromkeys(actions for actions, _, _ in allowed))
    for actions, arn, length in sorted(allowed, key=lambda a: order.index(a[0])):
        statement = _AROUND + len(json.dumps(actions))
        needed = length + len('"", ') + (0 if actions == said else statement)
        if needed > left:
            parts.append([])
            left, needed = room, length + len('"", ') + statement
        parts[-1].append((actions, arn, length))
        left, said = left - needed, actions
    return parts


def _allowing(part: Sequence[Allowed]) -> pulumi.Output[str]:
    """A statement for each set of actions: what may be done to several ARNs is said once."""
    arns: dict[tuple[str, ...], list[Any]] = defaultdict(list)
    for actions, arn, _ in part:
        arns[actions].append(arn)
    return pulumi.Output.json_dumps(
        _document([{"Effect": "Allow", "Action": list(actions), "Resource": on} for actions, on in arns.items()])
    )


def _too_much(identity: Identity) -> ResourceFailed:
    limit = f"IAM takes {_MOST} policies of {_MANAGED:,} characters each"
    words = f'"{identity.key}" uses more than one role can be allowed: {limit}'
    return ResourceFailed(words, hint="split it: routes into several `services`, a consumer into several")


def _allowed(identity: Identity, plan: RuntimePlan, program: "StackProgram") -> Iterator[Allowed]:
    for grant in identity.grants:
        arn = program.component(grant.of).outputs.get(grant.on)
        if arn:  # of what is not managed, some may not be known
            name = arn if isinstance(arn, str) else max((of.name for of in _behind(grant.of, program)), key=len)
            yield grant.actions, _below(arn, grant.below), _LONGEST_START + len(name + grant.below)
    for secret in identity.secrets:
        name = plan.secrets.prefix + secret
        yield ("secretsmanager:GetSecretValue",), _secret_arn(name, plan, program), _LONGEST_START + len(name)


def _behind(key: str, program: "StackProgram") -> Iterator[Resource]:
    """A primitive, and those that it refers to: it may give out an ARN of theirs, as a database on another's server."""
    resource = program.graph[key]
    yield resource
    yield from (program.graph[other] for other in resource.references.values())


def _below(arn: Any, below: str) -> Any:
    return pulumi.Output.concat(arn, below) if below else arn


def _secret_arn(name: str, plan: RuntimePlan, program: "StackProgram") -> pulumi.Output[str]:
    """Secrets Manager ends each ARN with a hyphen and six characters of its own."""
    region = plan.secrets.settings.get("region") or program.region
    return pulumi.Output.all(program.caller, region).apply(
        lambda known: (
            f"arn:{partition_of(known[0].arn)}:secretsmanager:{known[1]}:{known[0].account_id}:secret:{name}-??????"
        )
    )


def partition_of(arn: str) -> str:
    """`aws`, or what AWS is called in China and for governments."""
    return arn.split(":")[1]
