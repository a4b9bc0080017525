"""A bucket of others' that a stream takes events from: whether S3 tells somebody else of them, too.

S3 keeps one notification configuration a bucket, and putting or deleting ours puts or deletes all of it.
Source: https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketNotificationConfiguration.html
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from buildflow.errors import ResourceFailed
from buildflow.ir.graph import Resource
from buildflow.provision.cloud.steps import Steps

NOTIFICATION = "aws:s3/bucketNotification:BucketNotification"
_ARNS = ("QueueArn", "TopicArn", "LambdaFunctionArn")


def changed_buckets(steps: Steps, known: Iterable[Resource]) -> list[Resource]:
    """The buckets that are not managed, and whose notifications these steps change. Of a key, `known` may have both
    the bucket that it was and the one that it is to be."""
    owners = {step.owner for step in steps.found.values() if step.type == NOTIFICATION and step.verb}
    return list({b.name: b for b in known if b.key in owners and not b.managed}.values())


def refuse_to_overwrite(
    buckets: Iterable[Resource], known: Iterable[Resource], outputs: Mapping[str, Mapping[str, Any]], session: Any
) -> None:
    """Raise `ResourceFailed` where a bucket notifies others than our streams: those that are `known`, and those whose
    `outputs` tell that they exist."""
    ours = {(resource.key, resource.name) for resource in known}
    ours |= {(key, str(values.get("name"))) for key, values in outputs.items()}
    for bucket in buckets:
        with session.spoken("s3", f'bucket "{bucket.name}"'):
            client = session.client("s3", session.region_of(bucket))
            found = client.get_bucket_notification_configuration(Bucket=bucket.name)
        others = list(_others(found, ours))
        if others:
            raise _overwriting(bucket, others)


def _others(found: Mapping[str, Any], ours: set[tuple[str, str]]) -> Iterator[str]:
    """Whom S3 tells beside our streams."""
    for kind in ("QueueConfigurations", "TopicConfigurations", "LambdaFunctionConfigurations"):
        for told in found.get(kind, ()):
            arn = next(str(told[name]) for name in _ARNS if name in told)
            if (told.get("Id"), arn.rpartition(":")[2]) not in ours:
                yield arn
    if "EventBridgeConfiguration" in found:
        yield "EventBridge"


def _overwriting(bucket: Resource, others: list[str]) -> ResourceFailed:
    return ResourceFailed(
        f'{bucket.label} {bucket.id} ("{bucket.key}") is not managed here, and tells others of its objects: '
        f"{', '.join(others)}. S3 keeps one notification configuration a bucket: changing ours would remove theirs",
        hint="have its owner notify an SQS queue as well, and refer to that: "
        "`{type: file_change_stream, bucket: ..., managed: false, name: QUEUE}`; where ours is to go, take it out "
        "by hand (its id is the stream's key), and run: platform refresh",
    )
