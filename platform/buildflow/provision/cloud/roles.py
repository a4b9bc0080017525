"""An identity as IAM knows it: a role, and a policy with its actions on its ARNs."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pulumi

from buildflow.ir.runtime import RuntimePlan
from buildflow.providers.secrets import cloud_sdk
from buildflow.provision.cloud.identities import Identity

if TYPE_CHECKING:
    from buildflow.provision.cloud.program import StackProgram

iam = cloud_sdk("pulumi_aws.iam", "aws")

_TASKS = ("ecs-tasks.amazonaws.com", "pods.eks.amazonaws.com")
"""The services of AWS that run processes and say for which account."""


class IdentityRole(pulumi.ComponentResource):
    """The role of one identity, with the policy that says what it may do. One that needs nothing has no policy."""

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
        statements = list(_statements(identity, plan, program))
        if statements:
            iam.RolePolicy(
                identity.key,
                name=identity.name,
                role=role.name,
                policy=pulumi.Output.json_dumps(_document(statements)),
                opts=inner,
            )
        self.arn = role.arn
        self.register_outputs({"arn": role.arn, "name": role.name})


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


def _statements(identity: Identity, plan: RuntimePlan, program: "StackProgram") -> Iterator[dict[str, Any]]:
    """A statement for each set of actions: what may be done to several ARNs is said once."""
    allowed: dict[tuple[str, ...], list[Any]] = defaultdict(list)
    for grant in identity.grants:
        arn = program.component(grant.of).outputs.get(grant.on)
        if arn:  # of what is not managed, some may not be known
            allowed[grant.actions].append(_below(arn, grant.below))
    for name in identity.secrets:
        allowed[("secretsmanager:GetSecretValue",)].append(_secret_arn(plan.secrets.prefix + name, plan, program))
    for actions, arns in allowed.items():
        yield {"Effect": "Allow", "Action": list(actions), "Resource": arns}


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
