"""What an interrupted `apply` had begun to create: found in the cloud and taken up, so that the next one goes on.

Pulumi notes a creation before it asks for it. Ended in between, it does not know what became of it; created again,
what has a name of its own would be refused as taken.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from buildflow.providers.aws import AwsSession
from buildflow.providers.secrets import cloud_sdk
from buildflow.provision.cloud.steps import BUCKET, INSTANCE, name_of

Find = Callable[[str, str, Mapping[str, Any]], str | None]
"""The id of a resource of this type, its key and its inputs; None where there is none of ours, or where creating it
twice is fine."""


def take_up(deployment: dict[str, Any], find: Find) -> bool:
    """Note what exists of the pending creations as created; whether there were any. Their outputs are read by the
    refresh that has to follow."""
    pending = deployment.pop("pending_operations", None) or []
    for operation in pending:
        resource = operation["resource"]
        if operation.get("type") != "creating" or not resource.get("custom"):
            continue
        id = find(resource["type"], name_of(resource["urn"]), resource.get("inputs") or {})
        if id is not None:
            deployment.setdefault("resources", []).append({**resource, "id": id, "outputs": resource.get("inputs")})
    return bool(pending)


def in_aws(session: AwsSession) -> Find:
    """Looks for what AWS knows by a name that only one may have. What bears another stack's tags is not ours."""
    refused = cloud_sdk("botocore.exceptions", "aws").ClientError
    ours = {"buildflow:project": session.graph.project, "buildflow:stack": session.graph.stack}

    def find(type: str, key: str, inputs: Mapping[str, Any]) -> str | None:
        if type not in _FINDERS:
            return None
        service, look = _FINDERS[type]
        region = session.region_of(session.graph[key]) if key in session.graph else None
        with session.spoken(service, f'what an interrupted command had begun for "{key}"'):
            try:
                id, tags = look(session.client(service, region), inputs)
            except refused as exc:
                if exc.response["ResponseMetadata"].get("HTTPStatusCode") in (301, 403, 404) or "NotFound" in str(exc):
                    return None  # there is none, or it is another account's: creating it says so
                raise
        mine = not tags or all(tags.get(name) == value for name, value in ours.items())
        return id if mine else None

    return find


Found = tuple[str | None, Mapping[str, str]]
"""An id, and the tags that it bears."""


def _bucket(s3: Any, inputs: Mapping[str, Any]) -> Found:
    s3.head_bucket(Bucket=inputs["bucket"])
    return str(inputs["bucket"]), bucket_tags(s3, inputs["bucket"])


def bucket_tags(s3: Any, name: str) -> dict[str, str]:
    try:
        return _named(s3.get_bucket_tagging(Bucket=name)["TagSet"])
    except s3.exceptions.ClientError as exc:
        if exc.response["Error"]["Code"] != "NoSuchTagSet":
            raise
        return {}


def _role(iam: Any, inputs: Mapping[str, Any]) -> Found:
    role = iam.get_role(RoleName=inputs["name"])["Role"]
    return str(inputs["name"]), _named(role.get("Tags", ()))


def _policy(iam: Any, inputs: Mapping[str, Any]) -> Found:
    pages = iam.get_paginator("list_policies").paginate(Scope="Local")
    policy = next((p for page in pages for p in page["Policies"] if p["PolicyName"] == inputs["name"]), None)
    if policy is None:
        return None, {}
    return str(policy["Arn"]), _named(iam.list_policy_tags(PolicyArn=policy["Arn"])["Tags"])


def _instance(rds: Any, inputs: Mapping[str, Any]) -> Found:
    (instance,) = rds.describe_db_instances(DBInstanceIdentifier=inputs["identifier"])["DBInstances"]
    return str(inputs["identifier"]), _named(instance.get("TagList", ()))


def _subnet_group(rds: Any, inputs: Mapping[str, Any]) -> Found:
    (group,) = rds.describe_db_subnet_groups(DBSubnetGroupName=inputs["name"])["DBSubnetGroups"]
    return str(inputs["name"]), _named(rds.list_tags_for_resource(ResourceName=group["DBSubnetGroupArn"])["TagList"])


def _security_group(ec2: Any, inputs: Mapping[str, Any]) -> Found:
    found = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [inputs["name"]]}])
    group: Mapping[str, Any] = next(iter(found["SecurityGroups"]), {})
    return group.get("GroupId"), _named(group.get("Tags", ()))


def _secret(secrets: Any, inputs: Mapping[str, Any]) -> Found:
    secret = secrets.describe_secret(SecretId=inputs["name"])
    return str(secret["ARN"]), _named(secret.get("Tags", ()))


def _named(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}


_FINDERS: dict[str, tuple[str, Callable[[Any, Mapping[str, Any]], Found]]] = {
    BUCKET: ("s3", _bucket),
    "aws:iam/role:Role": ("iam", _role),
    "aws:iam/policy:Policy": ("iam", _policy),
    INSTANCE: ("rds", _instance),
    "aws:rds/subnetGroup:SubnetGroup": ("rds", _subnet_group),
    "aws:ec2/securityGroup:SecurityGroup": ("ec2", _security_group),
    "aws:secretsmanager/secret:Secret": ("secretsmanager", _secret),
}
"""Queues and topics are not here: creating one twice gives the one that is there."""
