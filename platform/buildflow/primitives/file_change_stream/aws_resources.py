"""What a file change stream is made of on AWS: a queue, its policy, and its part of the bucket's notification."""

from collections.abc import Mapping, Sequence
from typing import Any

from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.queue.aws_resources import QueueComponent
from buildflow.providers.secrets import cloud_sdk

s3 = cloud_sdk("pulumi_aws.s3", "aws")

EVENTS = {"created": "s3:ObjectCreated:*", "deleted": "s3:ObjectRemoved:*"}


class S3FileChangeStream(QueueComponent):
    """The queue that S3 sends a bucket's events to."""

    def create(self) -> Mapping[str, Any]:
        bucket = self._program.component(self._resource.references["bucket"])
        outputs = super().create()
        self.let_in(outputs, "s3.amazonaws.com", bucket.outputs["arn"])
        streams = streams_of(self._program.graph, self._resource)
        if self._resource.key == streams[-1].key:
            self._notify(bucket, streams, outputs["arn"])
        return outputs

    def _notify(self, bucket: Any, streams: Sequence[Resource], last_arn: Any) -> None:
        """The bucket's one notification: S3 keeps no more, and asks every queue's policy when it is put."""
        others = [self._program.component(stream.key) for stream in streams[:-1]]
        arns = [*(other.outputs["arn"] for other in others), last_arn]
        ready = [child for stream in (*others, self) for child in stream.ready]
        owner = self._program.graph[self._resource.references["bucket"]]
        s3.BucketNotification(
            owner.key,
            bucket=bucket.outputs["name"],
            queues=[_notification(stream, arn) for stream, arn in zip(streams, arns, strict=True)],
            opts=self._program.options(owner, parent=bucket, depends_on=ready),
        )


def streams_of(graph: ResourceGraph, stream: Resource) -> list[Resource]:
    """The streams of the same bucket that are created, in the graph's order."""
    return [
        other
        for other in graph.referrers(stream.references["bucket"])
        if (other.type, other.provider, other.managed) == (stream.type, stream.provider, True)
    ]


def _notification(stream: Resource, arn: Any) -> dict[str, Any]:
    filters = {f"filter_{name}": stream.spec[name] for name in ("prefix", "suffix") if stream.spec[name]}
    return {"id": stream.key, "queue_arn": arn, "events": sorted(EVENTS[e] for e in stream.spec["events"]), **filters}
