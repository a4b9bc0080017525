"""Every resource type and every function that the stand-in knows."""

from collections.abc import Callable
from typing import Any

from pulumi_cli.problems import DeploymentFailed
from pulumi_cli.providers import ec2, iam, index, random_values, rds, s3, secretsmanager, sns, sqs
from pulumi_cli.providers.handler import Handler
from pulumi_cli.values import Properties

SERVICES = {  # what the SDK that the real provider is built on calls a service in its errors
    "s3": "S3",
    "sqs": "SQS",
    "sns": "SNS",
    "iam": "IAM",
    "rds": "RDS",
    "ec2": "EC2",
    "vpc": "EC2",
    "secretsmanager": "Secrets Manager",
}
MODULES = (s3, sqs, sns, iam, rds, ec2, secretsmanager, random_values)
HANDLERS: dict[str, Handler] = {handler.token: handler for module in MODULES for handler in module.HANDLERS}
FUNCTIONS: dict[str, Callable[[Any, Properties], Properties]] = {
    token: function
    for module in (s3, sqs, sns, rds, ec2, secretsmanager, index)
    for token, function in module.FUNCTIONS.items()
}


def handler_of(token: str, urn: str = "") -> Handler:
    if token not in HANDLERS:
        raise DeploymentFailed(
            f"unrecognized resource type (Check): {token} (the stand-in for the Pulumi CLI has no handler for it)", urn
        )
    return HANDLERS[token]


def service_of(token: str) -> str:
    return SERVICES.get(token.split(":")[1].split("/")[0], "AWS")


def package_of(token: str) -> str:
    """ "aws" of `aws:s3/bucket:Bucket` and of `pulumi:providers:aws`."""
    return token.rsplit(":", 1)[1] if token.startswith("pulumi:providers:") else token.split(":")[0]
