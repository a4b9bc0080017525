"""S3: buckets, and each of the configurations that a bucket has beside it."""

from typing import Any

from pulumi_cli.problems import NotThere, ProviderFailed
from pulumi_cli.providers.aws import code, tag_list, tags_of
from pulumi_cli.providers.handler import Handler
from pulumi_cli.providers.names import from_aws, to_aws
from pulumi_cli.providers.policies import allows
from pulumi_cli.values import Properties, plain

ABSENT = {"404", "NoSuchBucket"}


class S3Handler(Handler):
    def client(self, cloud: Any, known: Properties) -> Any:
        return cloud.client("s3", known.get("region"))


class Bucket(S3Handler):
    token = "aws:s3/bucket:Bucket"
    noun = "S3 Bucket"
    named = "bucket"
    optional = ("bucket", "forceDestroy", "objectLockEnabled", "tags")
    defaults = {"forceDestroy": False}
    replace_on = ("bucket", "objectLockEnabled")

    def create(self, cloud: Any, inputs: Properties) -> str:
        client, name = self.client(cloud, inputs), inputs["bucket"]
        region = inputs.get("region", cloud.region)
        # In us-east-1 S3 says yes to a bucket of one's own that exists: the provider looks first.
        if region == "us-east-1" and exists(client, name):
            raise ProviderFailed("BucketAlreadyExists")
        place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        lock = {"ObjectLockEnabledForBucket": True} if inputs.get("objectLockEnabled") else {}
        client.create_bucket(Bucket=name, **place, **lock)
        if inputs.get("tags"):
            client.put_bucket_tagging(Bucket=name, Tagging={"TagSet": tag_list(inputs["tags"])})
        return str(name)

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        client = self.client(cloud, known)
        if not exists(client, id):
            return None
        region = client.get_bucket_location(Bucket=id).get("LocationConstraint") or "us-east-1"
        tags = bucket_tags(client, id)
        return {
            "bucket": id,
            "arn": f"arn:{cloud.partition}:s3:::{id}",
            "bucketDomainName": f"{id}.s3.amazonaws.com",
            "bucketRegionalDomainName": f"{id}.s3.{region}.amazonaws.com",
            "bucketRegion": region,
            "region": region,
            "hostedZoneId": "Z3AQBSTGFYJSTF",
            "tags": tags,
            "tagsAll": tags,
        }

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> None:
        client = self.client(cloud, new)
        if old.get("tags") != new.get("tags"):
            if new.get("tags"):
                client.put_bucket_tagging(Bucket=id, Tagging={"TagSet": tag_list(new["tags"])})
            else:
                client.delete_bucket_tagging(Bucket=id)

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        client = self.client(cloud, known)
        if not exists(client, id):
            return
        if known.get("forceDestroy"):
            empty(client, id)
        client.delete_bucket(Bucket=id)


class OldBucket(Bucket):
    """Version 6 called it so."""

    token = "aws:s3/bucketV2:BucketV2"


def exists(client: Any, name: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        client.head_bucket(Bucket=name)
    except ClientError as exc:
        if code(exc) in ABSENT:
            return False
        raise
    return True


def bucket_tags(client: Any, name: str) -> dict[str, str]:
    found = asked(lambda: client.get_bucket_tagging(Bucket=name), {"NoSuchTagSet"})
    return tags_of(found["TagSet"]) if found else {}


def empty(client: Any, name: str) -> None:
    """Delete every object, in all its versions."""
    for page in client.get_paginator("list_object_versions").paginate(Bucket=name):
        found = [*page.get("Versions", ()), *page.get("DeleteMarkers", ())]
        for item in found:
            client.delete_object(Bucket=name, Key=item["Key"], VersionId=item["VersionId"])


def asked(call: Any, absent: set[str]) -> Any:
    """What a call answers, or None where its error says that there is nothing."""
    from botocore.exceptions import ClientError

    try:
        return call()
    except ClientError as exc:
        if code(exc) in ABSENT | absent:
            return None
        raise


class BucketConfiguration(S3Handler):
    """What is put, got and deleted as one piece of a bucket; its id is the bucket's name."""

    required: tuple[str, ...] = ("bucket",)
    replace_on = ("bucket",)
    absent: set[str] = set()

    def create(self, cloud: Any, inputs: Properties) -> str:
        client = self.client(cloud, inputs)
        if not exists(client, inputs["bucket"]):
            raise ProviderFailed("NoSuchBucket: The specified bucket does not exist")
        self.put(cloud, client, inputs)
        return str(inputs["bucket"])

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        client = self.client(cloud, known)
        found = asked(lambda: self.get(client, id), self.absent)
        return {"bucket": id, "region": known.get("region", cloud.region), **found} if found else None

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> None:
        self.put(cloud, self.client(cloud, new), new)

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        client = self.client(cloud, known)
        asked(lambda: self.take_away(client, id), self.absent)

    def put(self, cloud: Any, client: Any, inputs: Properties) -> None:
        raise NotImplementedError

    def get(self, client: Any, bucket: str) -> Properties | None:
        raise NotImplementedError

    def take_away(self, client: Any, bucket: str) -> None:
        raise NotImplementedError


class BucketVersioning(BucketConfiguration):
    token = "aws:s3/bucketVersioning:BucketVersioning"
    noun = "S3 Bucket Versioning"
    required = ("bucket", "versioningConfiguration")
    optional = ("expectedBucketOwner", "mfa")

    def put(self, cloud: Any, client: Any, inputs: Properties) -> None:
        status = inputs["versioningConfiguration"]["status"]
        if status != "Disabled":
            client.put_bucket_versioning(Bucket=inputs["bucket"], VersioningConfiguration={"Status": status})

    def get(self, client: Any, bucket: str) -> Properties | None:
        status = client.get_bucket_versioning(Bucket=bucket).get("Status", "Disabled")
        return {"versioningConfiguration": {"status": status}}

    def take_away(self, client: Any, bucket: str) -> None:
        if client.get_bucket_versioning(Bucket=bucket).get("Status"):
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})


class BucketEncryption(BucketConfiguration):
    token = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
    noun = "S3 Bucket Server-side Encryption Configuration"
    required = ("bucket", "rules")
    optional = ("expectedBucketOwner",)
    absent = {"ServerSideEncryptionConfigurationNotFoundError"}

    def put(self, cloud: Any, client: Any, inputs: Properties) -> None:
        rules = {"Rules": to_aws(inputs["rules"])}
        client.put_bucket_encryption(Bucket=inputs["bucket"], ServerSideEncryptionConfiguration=rules)

    def get(self, client: Any, bucket: str) -> Properties | None:
        rules = client.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        return {"rules": from_aws(rules)}

    def take_away(self, client: Any, bucket: str) -> None:
        client.delete_bucket_encryption(Bucket=bucket)


class BucketPublicAccessBlock(BucketConfiguration):
    token = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
    noun = "S3 Bucket Public Access Block"
    names = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
    optional = (*names, "skipDestroy")
    defaults = dict.fromkeys(names, False)
    absent = {"NoSuchPublicAccessBlockConfiguration"}

    def put(self, cloud: Any, client: Any, inputs: Properties) -> None:
        wanted = to_aws({name: inputs[name] for name in self.names})
        client.put_public_access_block(Bucket=inputs["bucket"], PublicAccessBlockConfiguration=wanted)

    def get(self, client: Any, bucket: str) -> Properties | None:
        return from_aws(client.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"])

    def take_away(self, client: Any, bucket: str) -> None:
        client.delete_public_access_block(Bucket=bucket)


class BucketLifecycle(BucketConfiguration):
    token = "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration"
    noun = "S3 Bucket Lifecycle Configuration"
    required = ("bucket", "rules")
    optional = ("expectedBucketOwner",)
    absent = {"NoSuchLifecycleConfiguration"}

    def put(self, cloud: Any, client: Any, inputs: Properties) -> None:
        rules = [rule if rule.keys() & {"filter", "prefix"} else {**rule, "filter": {}} for rule in inputs["rules"]]
        configuration = {"Rules": to_aws(rules)}
        client.put_bucket_lifecycle_configuration(Bucket=inputs["bucket"], LifecycleConfiguration=configuration)

    def get(self, client: Any, bucket: str) -> Properties | None:
        return {"rules": from_aws(client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"])}

    def take_away(self, client: Any, bucket: str) -> None:
        client.delete_bucket_lifecycle(Bucket=bucket)


class BucketCors(BucketConfiguration):
    token = "aws:s3/bucketCorsConfiguration:BucketCorsConfiguration"
    noun = "S3 Bucket CORS Configuration"
    required = ("bucket", "corsRules")
    optional = ("expectedBucketOwner",)
    absent = {"NoSuchCORSConfiguration"}

    def put(self, cloud: Any, client: Any, inputs: Properties) -> None:
        client.put_bucket_cors(Bucket=inputs["bucket"], CORSConfiguration={"CORSRules": to_aws(inputs["corsRules"])})

    def get(self, client: Any, bucket: str) -> Properties | None:
        return {"corsRules": from_aws(client.get_bucket_cors(Bucket=bucket)["CORSRules"])}

    def take_away(self, client: Any, bucket: str) -> None:
        client.delete_bucket_cors(Bucket=bucket)


class BucketOwnership(BucketConfiguration):
    token = "aws:s3/bucketOwnershipControls:BucketOwnershipControls"
    noun = "S3 Bucket Ownership Controls"
    required = ("bucket", "rule")
    absent = {"OwnershipControlsNotFoundError"}

    def put(self, cloud: Any, client: Any, inputs: Properties) -> None:
        controls = {"Rules": [to_aws(inputs["rule"])]}
        client.put_bucket_ownership_controls(Bucket=inputs["bucket"], OwnershipControls=controls)

    def get(self, client: Any, bucket: str) -> Properties | None:
        rules = client.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]
        return {"rule": from_aws(rules[0])}

    def take_away(self, client: Any, bucket: str) -> None:
        client.delete_bucket_ownership_controls(Bucket=bucket)


class BucketPolicy(BucketConfiguration):
    token = "aws:s3/bucketPolicy:BucketPolicy"
    noun = "S3 Bucket Policy"
    required = ("bucket", "policy")
    documents = ("policy",)
    absent = {"NoSuchBucketPolicy"}

    def put(self, cloud: Any, client: Any, inputs: Properties) -> None:
        client.put_bucket_policy(Bucket=inputs["bucket"], Policy=inputs["policy"])

    def get(self, client: Any, bucket: str) -> Properties | None:
        return {"policy": client.get_bucket_policy(Bucket=bucket)["Policy"]}

    def take_away(self, client: Any, bucket: str) -> None:
        client.delete_bucket_policy(Bucket=bucket)


class BucketNotification(BucketConfiguration):
    """S3 asks each destination whether it lets the bucket send, which moto does not."""

    token = "aws:s3/bucketNotification:BucketNotification"
    policies = {"aws:sqs/queuePolicy:QueuePolicy": "queueUrl", "aws:sns/topicPolicy:TopicPolicy": "arn"}
    noun = "S3 Bucket Notification"
    optional = ("eventbridge", "queues", "topics")
    defaults = {"eventbridge": False}

    def refuses_without(self, inputs: Properties, other: Any) -> str:
        """The policy of a destination has to be there first: S3 would ask at once."""
        policed = plain(other.inputs.get(self.policies.get(other.type, ""), ""))
        for destination in (*inputs.get("queues", ()), *inputs.get("topics", ())):
            arn = destination.get("queueArn") or destination.get("topicArn")
            if policed and (policed == arn or policed.split("/")[-2:] == arn.split(":")[-2:]):
                return _refusal(arn)
        return ""

    def put(self, cloud: Any, client: Any, inputs: Properties) -> None:
        bucket = inputs["bucket"]
        for destination in inputs.get("queues", ()):
            _refuse_unless(_queue_allows(cloud, destination["queueArn"], bucket), destination["queueArn"])
        for destination in inputs.get("topics", ()):
            _refuse_unless(_topic_allows(cloud, destination["topicArn"], bucket), destination["topicArn"])
        wanted: dict[str, Any] = {
            "QueueConfigurations": [_rule(item, "queueArn", "QueueArn") for item in inputs.get("queues", ())],
            "TopicConfigurations": [_rule(item, "topicArn", "TopicArn") for item in inputs.get("topics", ())],
        }
        if inputs.get("eventbridge"):
            wanted["EventBridgeConfiguration"] = {}
        client.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=wanted)

    def get(self, client: Any, bucket: str) -> Properties | None:
        found = client.get_bucket_notification_configuration(Bucket=bucket)
        queues = [_read_rule(item, "QueueArn", "queueArn") for item in found.get("QueueConfigurations", ())]
        topics = [_read_rule(item, "TopicArn", "topicArn") for item in found.get("TopicConfigurations", ())]
        eventbridge = "EventBridgeConfiguration" in found
        if not queues and not topics and not eventbridge:
            return None
        given = {"queues": queues, "topics": topics}
        return {"eventbridge": eventbridge, **{key: rules for key, rules in given.items() if rules}}

    def take_away(self, client: Any, bucket: str) -> None:
        client.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})


def _rule(item: Properties, arn: str, name: str) -> dict[str, Any]:
    rules = [
        {"Name": end, "Value": item[key]}
        for end, key in (("prefix", "filterPrefix"), ("suffix", "filterSuffix"))
        if item.get(key)
    ]
    wanted = {name: item[arn], "Events": item["events"]}
    wanted |= {"Id": item["id"]} if item.get("id") else {}
    return wanted | ({"Filter": {"Key": {"FilterRules": rules}}} if rules else {})


def _read_rule(item: Any, name: str, arn: str) -> Properties:
    rules = item.get("Filter", {}).get("Key", {}).get("FilterRules", ())
    filters = {f"filter{rule['Name'].capitalize()}": rule["Value"] for rule in rules}
    return {"id": item["Id"], arn: item[name], "events": item["Events"], **filters}


def _refuse_unless(allowed: bool, destination: str) -> None:
    if not allowed:
        raise ProviderFailed(_refusal(destination))


def _refusal(destination: str) -> str:
    return (
        "operation error S3: PutBucketNotificationConfiguration, https response error StatusCode: 400, "
        "RequestID: , HostID: , api error InvalidArgument: Unable to validate the following destination "
        f"configurations ({destination})"
    )


def _queue_allows(cloud: Any, arn: str, bucket: str) -> bool:
    region, account, name = arn.split(":")[3:6]
    client = cloud.client("sqs", region)
    absent = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"}
    url = asked(lambda: client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"], absent)
    if url is None:
        return False
    policy = client.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]).get("Attributes", {}).get("Policy")
    return _lets_s3(cloud, policy, "sqs:SendMessage", arn, bucket)


def _topic_allows(cloud: Any, arn: str, bucket: str) -> bool:
    client = cloud.client("sns", arn.split(":")[3])
    found = asked(lambda: client.get_topic_attributes(TopicArn=arn), {"NotFound"})
    return bool(found) and _lets_s3(cloud, found["Attributes"].get("Policy"), "sns:Publish", arn, bucket)


def _lets_s3(cloud: Any, policy: Any, action: str, resource: str, bucket: str) -> bool:
    context = {
        "aws:SourceArn": f"arn:{cloud.partition}:s3:::{bucket}",
        "aws:SourceAccount": cloud.account,
    }
    return allows(policy or "", service="s3.amazonaws.com", action=action, resource=resource, context=context)


def get_bucket(cloud: Any, args: Properties) -> Properties:
    found = Bucket().read(cloud, args["bucket"], args)
    if found is None:
        raise NotThere(f"reading S3 Bucket ({args['bucket']}): couldn't find resource")
    return {"id": args["bucket"], **found}


HANDLERS: tuple[Handler, ...] = (
    Bucket(),
    OldBucket(),
    BucketVersioning(),
    BucketEncryption(),
    BucketPublicAccessBlock(),
    BucketLifecycle(),
    BucketCors(),
    BucketOwnership(),
    BucketPolicy(),
    BucketNotification(),
)
FUNCTIONS = {"aws:s3/getBucket:getBucket": get_bucket}
