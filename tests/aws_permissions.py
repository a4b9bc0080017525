"""What a call of boto3 has to be allowed, as IAM names it, and whether a policy allows it.

Source: https://docs.aws.amazon.com/service-authorization/latest/reference/
"""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ACTIONS = {
    ("s3", "HeadObject"): "s3:GetObject",
    ("s3", "ListObjectsV2"): "s3:ListBucket",
    ("s3", "HeadBucket"): "s3:ListBucket",
    ("s3", "CreateMultipartUpload"): "s3:PutObject",
    ("s3", "UploadPart"): "s3:PutObject",
    ("s3", "CompleteMultipartUpload"): "s3:PutObject",
    ("sqs", "SendMessageBatch"): "sqs:SendMessage",
    ("sqs", "DeleteMessageBatch"): "sqs:DeleteMessage",
    ("sqs", "ChangeMessageVisibilityBatch"): "sqs:ChangeMessageVisibility",
    ("sns", "PublishBatch"): "sns:Publish",
}
"""Calls whose permission bears another name."""


def needed(call: Mapping[str, Any]) -> tuple[str, str]:
    """The action of a recorded call, and the ARN that it is on, its region and account left open."""
    service, operation, on = call["service"], call["operation"], call["on"]
    action = ACTIONS.get((service, operation), f"{service}:{operation}")
    if "Bucket" in on:
        return action, "arn:aws:s3:::" + "/".join(filter(None, (on["Bucket"], on.get("Key"))))
    if "QueueUrl" in on:
        return action, f"arn:aws:sqs:*:*:{on['QueueUrl'].rpartition('/')[2]}"
    return action, on.get("TopicArn") or on.get("SecretId") or ""


def allows(statements: Iterable[Mapping[str, Any]], action: str, arn: str) -> bool:
    """Whether one of a policy's statements allows `action` on `arn`."""
    return any(
        s["Effect"] == "Allow" and action in _list(s["Action"]) and any(_matches(r, arn) for r in _list(s["Resource"]))
        for s in statements
    )


def _matches(pattern: str, arn: str) -> bool:
    if "*:*" in arn:  # of a queue that a URL names
        return pattern.rpartition(":")[2] == arn.rpartition(":")[2] and pattern.split(":")[2] == arn.split(":")[2]
    return fnmatch.fnmatchcase(arn, pattern)


def _list(value: str | Sequence[str]) -> Sequence[str]:
    return [value] if isinstance(value, str) else value
