"""What the provider says of itself: the account, the region, the partition."""

from typing import Any

from pulumi_cli.values import Properties


def get_caller_identity(cloud: Any, args: Properties) -> Properties:
    who = cloud.caller
    return {"id": who["Account"], "accountId": who["Account"], "arn": who["Arn"], "userId": who["UserId"]}


def get_region(cloud: Any, args: Properties) -> Properties:
    region = args.get("region") or args.get("name") or cloud.region
    endpoint = f"ec2.{region}.amazonaws.com"
    return {"id": region, "name": region, "region": region, "description": region, "endpoint": endpoint}


def get_partition(cloud: Any, args: Properties) -> Properties:
    suffix = "amazonaws.com.cn" if cloud.partition == "aws-cn" else "amazonaws.com"
    reverse = ".".join(reversed(suffix.split(".")))
    return {"id": cloud.partition, "partition": cloud.partition, "dnsSuffix": suffix, "reverseDnsPrefix": reverse}


FUNCTIONS = {
    "aws:index/getCallerIdentity:getCallerIdentity": get_caller_identity,
    "aws:index/getRegion:getRegion": get_region,
    "aws:index/getPartition:getPartition": get_partition,
}
