"""A stack's `aws:` block as Pulumi's provider of one region: where, and as which profile or role."""

import os
from collections.abc import Mapping
from typing import Any

from buildflow.errors import ResourceFailed
from buildflow.providers.aws_credentials import sign_in_hint
from buildflow.providers.secrets import cloud_sdk

aws = cloud_sdk("pulumi_aws", "aws")

SERVICES = ("ec2", "iam", "rds", "s3", "s3control", "secretsmanager", "sns", "sqs", "sts")
"""What the programs use, for stacks with an endpoint of their own."""


def refuse_nowhere(settings: Mapping[str, Any]) -> None:
    """Raise `ResourceFailed` where nothing names a region, or where a profile is named that there is not: Pulumi
    would say so of its provider."""
    boto3, exceptions = cloud_sdk("boto3", "aws"), cloud_sdk("botocore.exceptions", "aws")
    try:
        session = boto3.Session(region_name=settings.get("region"), profile_name=settings.get("profile"))
        region = session.region_name or os.environ.get("AWS_REGION")
    except exceptions.ProfileNotFound as exc:
        raise ResourceFailed(f"AWS cannot be asked: {exc}", hint=sign_in_hint(exc)) from exc
    if not region:
        words = "AWS cannot be asked: neither the stack nor the environment nor a profile names a region"
        raise ResourceFailed(words, hint="write the stack's `aws: {region: ...}`, or set AWS_REGION")


def make_provider(settings: Mapping[str, Any], region: str | None) -> Any:
    """Without a region, the one that the environment or the profile names. Keys come by the environment of Pulumi's
    CLI: in the provider they would stay in the state, and a `destroy` would use those of long ago."""
    return aws.Provider(
        f"aws-{region}" if region else "aws",
        region=region,
        profile=settings.get("profile"),
        **_role(settings.get("role_arn")),
        **_endpoint(settings.get("endpoint_url")),
    )


def _role(arn: str | None) -> dict[str, Any]:
    # a provider's settings are JSON, in which only these classes write Pulumi's names
    return {"assume_roles": [aws.ProviderAssumeRoleArgs(role_arn=arn, session_name="buildflow")]} if arn else {}


def _endpoint(url: str | None) -> dict[str, Any]:
    """An emulator knows neither AWS' keys nor its host names for buckets. Its account has to be asked for: S3's tags
    are read by it."""
    if url is None:
        return {}
    return {
        "endpoints": [aws.ProviderEndpointArgs(**dict.fromkeys(SERVICES, url))],
        "s3_use_path_style": True,
        "skip_credentials_validation": True,
        "skip_metadata_api_check": True,
    }
