"""A bucket that is not managed keeps the notifications that its owner gave it."""

from contextlib import nullcontext
from typing import Any

import pytest

from buildflow.errors import ResourceFailed
from buildflow.ir.graph import Resource
from buildflow.provision.cloud.notifications import refuse_to_overwrite

ARN = "arn:aws:sqs:eu-west-1:123456789012:"
OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "a queue": ({"QueueConfigurations": [{"Id": "x", "QueueArn": f"{ARN}theirs"}]}, f"{ARN}theirs"),
    "a queue of our key": ({"QueueConfigurations": [{"Id": "arrivals", "QueueArn": f"{ARN}theirs"}]}, "theirs"),
    "our queue, notified by another": ({"QueueConfigurations": [{"Id": "x", "QueueArn": f"{ARN}ours"}]}, "ours"),
    "a topic": ({"TopicConfigurations": [{"Id": "x", "TopicArn": "arn:aws:sns:x:1:news"}]}, "arn:aws:sns:x:1:news"),
    "a function": (
        {"LambdaFunctionConfigurations": [{"Id": "x", "LambdaFunctionArn": "arn:aws:lambda:x:1:function:f"}]},
        "arn:aws:lambda:x:1:function:f",
    ),
    "EventBridge": ({"EventBridgeConfiguration": {}}, "EventBridge"),
}
NONE_OR_OURS: dict[str, dict[str, Any]] = {
    "none": {},
    "ours": {"QueueConfigurations": [{"Id": "arrivals", "QueueArn": f"{ARN}ours"}]},
    "one of ours that was renamed": {"QueueConfigurations": [{"Id": "arrivals", "QueueArn": f"{ARN}once-ours"}]},
    "one that is removed": {"QueueConfigurations": [{"Id": "gone", "QueueArn": f"{ARN}gone"}]},
}


class Session:
    """One that S3 tells this of every bucket."""

    def __init__(self, found: dict[str, Any]) -> None:
        self.found = found

    def spoken(self, service: str, what: str) -> Any:
        return nullcontext()

    def region_of(self, resource: Resource) -> None:
        return None

    def client(self, service: str, region: str | None) -> "Session":
        return self

    def get_bucket_notification_configuration(self, Bucket: str) -> dict[str, Any]:
        assert Bucket == "theirs"
        return self.found


def look(found: dict[str, Any]) -> None:
    bucket, stream = (
        Resource(
            key=key, type=type, provider="aws", name=name, id=id, label=label, spec={}, references={}, managed=managed
        )
        for key, type, name, id, label, managed in (
            ("files", "bucket", "theirs", "s3://theirs", "S3Bucket", False),
            ("arrivals", "file_change_stream", "ours", "sqs://ours", "S3FileChangeStream", True),
        )
    )
    outputs = {"arrivals": {"name": "once-ours"}, "gone": {"name": "gone"}}
    refuse_to_overwrite([bucket], [bucket, stream], outputs, Session({"ResponseMetadata": {}, **found}))


@pytest.mark.parametrize(("found", "named"), OTHERS.values(), ids=OTHERS)
def test_what_tells_others_is_not_overwritten(found: dict[str, Any], named: str) -> None:
    with pytest.raises(ResourceFailed, match='S3Bucket s3://theirs \\("files"\\) is not managed here') as refused:
        look(found)
    assert named in str(refused.value)
    assert "managed: false, name: QUEUE" in refused.value.hint


@pytest.mark.parametrize("found", NONE_OR_OURS.values(), ids=NONE_OR_OURS)
def test_what_is_ours_is(found: dict[str, Any]) -> None:
    look(found)
