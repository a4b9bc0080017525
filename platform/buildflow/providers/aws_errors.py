"""What AWS and botocore say, in the platform's words: which failures pass, which are a permission, what to do."""

import re
from typing import Any

from buildflow.errors import BuildflowError, NotApplied, ServiceUnavailable
from buildflow.providers.aws_credentials import sign_in_hint

EXPIRED = ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired")
DENIED = ("AccessDenied", "AccessDeniedException", "AuthorizationError", "403", "Forbidden", "UnauthorizedOperation")
UNKNOWN_KEYS = (
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
    "InvalidSecurity",
    "AuthFailure",
)
MISSING = ("NonExistentQueue", "QueueDoesNotExist", "NoSuchBucket", "NotFound", "NotFoundException")
_PASSES = re.compile(r"Throttl|SlowDown|TooManyRequests|RequestLimit|Bandwidth|Unavailable|Internal|Timeout|OverLimit")
_ACTIONS = {
    "HeadObject": "GetObject",
    "HeadBucket": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
}
"""Calls whose permission bears another name. Source:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html"""


def code_of(exc: Any) -> str:
    """The error code of botocore's `ClientError`, without what stands before its last dot."""
    return str(exc.response.get("Error", {}).get("Code", "")).rpartition(".")[2]


def action_of(service: str, operation: str) -> str:
    """The permission that a call needs: ("sqs", "SendMessageBatch") is sqs:SendMessage."""
    return f"{service}:{_ACTIONS.get(operation, operation.removesuffix('Batch'))}"


def in_words(exc: BaseException, service: str, what: str) -> BuildflowError | None:
    """An exception of boto3 as one of the platform's; None when it is none of boto3's. `what` says what was asked, as
    in 'queue "orders"'."""
    module = type(exc).__module__.partition(".")[0]
    if hasattr(exc, "response") and hasattr(exc, "operation_name"):
        return _refused(exc, service, what)
    if module in ("boto3", "s3transfer"):
        return ServiceUnavailable(f"{what}: {exc}")
    if module in ("botocore", "urllib3"):
        return ServiceUnavailable(f"{what} is out of reach: {exc}", hint=sign_in_hint(exc))
    return None


def _refused(exc: Any, service: str, what: str) -> BuildflowError:
    code = code_of(exc)
    said = exc.response.get("Error", {}).get("Message") or code
    status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in EXPIRED:
        hint = "sign in again (`aws sso login`), or give the stack's `aws` block new keys"
        return ServiceUnavailable(f"{what}: the credentials for AWS have expired ({said})", hint=hint)
    if code in UNKNOWN_KEYS:
        hint = "look at the stack's `aws` keys, or at the profile that boto3 found"
        return ServiceUnavailable(f"{what}: AWS does not accept the credentials ({said})", hint=hint)
    if code in DENIED:
        asked = "sts" if exc.operation_name == "AssumeRole" else service
        action = action_of(asked, exc.operation_name)
        return ServiceUnavailable(f"{what}: {action} is not allowed ({said})", hint=f"allow {action}, in IAM")
    if code in MISSING:
        return NotApplied(f"{what} does not exist ({said})", hint="`platform apply` creates it")
    if status >= 500 or passes(code):
        return ServiceUnavailable(f"{what} does not answer: {said} ({code})")
    return BuildflowError(f"{what}: {exc.operation_name} is refused: {said} ({code})")


def passes(code: str) -> bool:
    """Whether a failure of this code is over soon: throttling, or a fault of AWS itself."""
    return bool(_PASSES.search(code))
