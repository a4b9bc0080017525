"""What an interrupted `apply` had begun to create: found in the cloud and taken up, so that the next one goes on.

Pulumi notes a creation before it asks for it. Ended in between, it does not know what became of it; created again,
what has a name of its own would be refused as taken.
"""

from collections.abc import Callable, Mapping
from typing import Any

from buildflow.providers.secrets import cloud_sdk

Find = Callable[[str, Mapping[str, Any]], str | None]
"""The id of a resource of this type and these inputs, None where there is none or where creating it twice is fine."""


def take_up(deployment: dict[str, Any], find: Find) -> bool:
    """Note what exists of the pending creations as created; whether there were any. Their outputs are read by the
    refresh that has to follow."""
    pending = deployment.pop("pending_operations", None) or []
    for operation in pending:
        resource = operation["resource"]
        if operation.get("type") != "creating" or not resource.get("custom"):
            continue
        id = find(resource["type"], resource.get("inputs") or {})
        if id is not None:
            deployment.setdefault("resources", []).append({**resource, "id": id, "outputs": resource.get("inputs")})
    return bool(pending)


def in_aws(client: Callable[[str], Any]) -> Find:
    """Looks for what AWS knows by a name that only one may have. `client` gives a boto3 client of a service."""

    def find(type: str, inputs: Mapping[str, Any]) -> str | None:
        if type not in _FINDERS:
            return None
        service, look = _FINDERS[type]
        refused = cloud_sdk("botocore.exceptions", "aws").ClientError

        try:
            return look(client(service), inputs)
        except refused as exc:
            if exc.response["ResponseMetadata"].get("HTTPStatusCode") == 404 or "NotFound" in str(exc):
                return None
            raise

    return find


def _bucket(s3: Any, inputs: Mapping[str, Any]) -> str:
    s3.head_bucket(Bucket=inputs["bucket"])
    return str(inputs["bucket"])


def _role(iam: Any, inputs: Mapping[str, Any]) -> str:
    iam.get_role(RoleName=inputs["name"])
    return str(inputs["name"])


def _instance(rds: Any, inputs: Mapping[str, Any]) -> str:
    rds.describe_db_instances(DBInstanceIdentifier=inputs["identifier"])
    return str(inputs["identifier"])


def _subnet_group(rds: Any, inputs: Mapping[str, Any]) -> str:
    rds.describe_db_subnet_groups(DBSubnetGroupName=inputs["name"])
    return str(inputs["name"])


def _security_group(ec2: Any, inputs: Mapping[str, Any]) -> str | None:
    found = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [inputs["name"]]}])
    return next((str(group["GroupId"]) for group in found["SecurityGroups"]), None)


def _secret(secrets: Any, inputs: Mapping[str, Any]) -> str:
    return str(secrets.describe_secret(SecretId=inputs["name"])["ARN"])


_FINDERS: dict[str, tuple[str, Callable[[Any, Mapping[str, Any]], str | None]]] = {
    "aws:s3/bucket:Bucket": ("s3", _bucket),
    "aws:iam/role:Role": ("iam", _role),
    "aws:rds/instance:Instance": ("rds", _instance),
    "aws:rds/subnetGroup:SubnetGroup": ("rds", _subnet_group),
    "aws:ec2/securityGroup:SecurityGroup": ("ec2", _security_group),
    "aws:secretsmanager/secret:Secret": ("secretsmanager", _secret),
}
"""Queues and topics are not here: creating one twice gives the one that is there."""
