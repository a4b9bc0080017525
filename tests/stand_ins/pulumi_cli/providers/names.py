"""Names of nested properties: `maxAgeSeconds` to Pulumi, `MaxAgeSeconds` to AWS."""

from collections.abc import Mapping
from typing import Any

TO_AWS = {
    "id": "ID",
    "sseAlgorithm": "SSEAlgorithm",
    "kmsMasterKeyId": "KMSMasterKeyID",
    "mfaDelete": "MFADelete",
}
FROM_AWS = {aws: name for name, aws in TO_AWS.items()}


def to_aws(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {TO_AWS.get(key, key[:1].upper() + key[1:]): _inner(key, item, to_aws) for key, item in value.items()}
    return [to_aws(item) for item in value] if isinstance(value, list) else value


def from_aws(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            FROM_AWS.get(key, key[:1].lower() + key[1:]): _inner(key, item, from_aws) for key, item in value.items()
        }
    return [from_aws(item) for item in value] if isinstance(value, list) else value


def _inner(key: str, value: Any, convert: Any) -> Any:
    """Tags are a mapping to Pulumi and a list to AWS."""
    if key == "tags":
        return [{"Key": name, "Value": text} for name, text in value.items()]
    if key == "Tags":
        return {tag["Key"]: tag["Value"] for tag in value}
    return convert(value)
