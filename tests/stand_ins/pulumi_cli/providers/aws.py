"""The AWS provider: its configuration, its credentials, and botocore's clients."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from pulumi_cli.problems import ProviderFailed
from pulumi_cli.values import Properties, plain

NO_CREDENTIALS = (
    "No valid credential sources found.\n"
    "Please see https://www.pulumi.com/registry/packages/aws/installation-configuration/ for more information about "
    "providing credentials."
)
WRONG_CREDENTIALS = (
    "Invalid credentials configured.\n"
    "Please see https://www.pulumi.com/registry/packages/aws/installation-configuration/ for more information about "
    "providing credentials."
)


class Aws:
    """One configured provider: `inputs` are those of its `pulumi:providers:aws` resource, or of the `aws:` config."""

    def __init__(self, inputs: Properties) -> None:
        self._settings = {key: _parsed(plain(value)) for key, value in inputs.items()}
        self._clients: dict[tuple[str, str], Any] = {}
        self._lock = threading.Lock()

    # What the program may ask of it without a call

    @cached_property
    def region(self) -> str:
        given = self._settings.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return given or self._session.get_config_variable("region") or ""

    @property
    def partition(self) -> str:
        return "aws-cn" if self.region.startswith("cn-") else "aws-us-gov" if "-gov-" in self.region else "aws"

    @property
    def default_tags(self) -> dict[str, str]:
        return (self._settings.get("defaultTags") or {}).get("tags") or {}

    @cached_property
    def caller(self) -> dict[str, str]:
        with errors():
            return self.client("sts").get_caller_identity()

    @property
    def account(self) -> str:
        return self.caller["Account"]

    # Signing in

    def faults(self) -> list[str]:
        """What is wrong with the configuration. The credentials are tried, as the real provider tries them."""
        if not self.region:
            return [
                "unable to validate AWS credentials.\nDetails: missing region configuration\n"
                "Make sure you have set your AWS region, e.g. `pulumi config set aws:region us-west-2`.\n"
            ]
        if self._settings.get("skipCredentialsValidation"):
            return []
        try:
            if self._session.get_credentials() is None and not self._settings.get("accessKey"):
                return [NO_CREDENTIALS]
            self.account  # noqa: B018, the call is what is tried
        except ProviderFailed as failure:
            if "The security token included in the request is invalid" in str(failure):
                return [WRONG_CREDENTIALS]
            return [_invalid(str(failure))]
        return []

    @cached_property
    def _session(self) -> Any:
        import botocore.exceptions
        import botocore.session

        try:
            return botocore.session.Session(profile=self._settings.get("profile"))
        except botocore.exceptions.BotoCoreError as exc:
            raise ProviderFailed(str(exc)) from exc

    @cached_property
    def _keys(self) -> dict[str, str]:
        """The keys that clients get: those of the configuration, or of the role that it assumes."""
        names = {"accessKey": "aws_access_key_id", "secretKey": "aws_secret_access_key", "token": "aws_session_token"}
        keys = {name: self._settings[key] for key, name in names.items() if self._settings.get(key)}
        roles = self._settings.get("assumeRoles") or [self._settings.get("assumeRole") or {}]
        for role in roles:
            if role.get("roleArn"):
                keys = self._assumed(role, keys)
        return keys

    def _assumed(self, role: dict[str, Any], keys: dict[str, str]) -> dict[str, str]:
        session = role.get("sessionName") or "pulumi"
        with errors(f"IAM Role ({role['roleArn']}) cannot be assumed"):
            given = self._client("sts", self.region, keys).assume_role(
                RoleArn=role["roleArn"], RoleSessionName=session
            )["Credentials"]
        return {
            "aws_access_key_id": given["AccessKeyId"],
            "aws_secret_access_key": given["SecretAccessKey"],
            "aws_session_token": given["SessionToken"],
        }

    # Clients

    def client(self, service: str, region: str | None = None) -> Any:
        """A client in the provider's region, or in the one that a resource names."""
        place = region or self.region
        with self._lock:
            if (service, place) not in self._clients:
                self._clients[service, place] = self._client(service, place, self._keys)
            return self._clients[service, place]

    def _client(self, service: str, region: str, keys: dict[str, str]) -> Any:
        from botocore.config import Config

        style = {"addressing_style": "path"} if self._settings.get("s3UsePathStyle") else {}
        patience = Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 3}, s3=style or None)
        return self._session.create_client(
            service, region_name=region, endpoint_url=self._endpoint(service), config=patience, **keys
        )

    def _endpoint(self, service: str) -> str | None:
        """Where a service is, if the program says so; else botocore looks at AWS_ENDPOINT_URL by itself."""
        for endpoints in self._settings.get("endpoints") or ():
            if endpoints.get(service):
                return endpoints[service]
        return None


def _parsed(value: Any) -> Any:
    """A provider's inputs cross the gRPC as texts, JSON if they are no text."""
    if isinstance(value, str) and (value[:1] in ("[", "{") or value in ("true", "false")):
        return json.loads(value)
    return value


def _invalid(details: str) -> str:
    return (
        f"unable to validate AWS credentials.\nDetails: validating provider credentials: retrieving caller identity "
        f"from STS: {details}\nMake sure you have set your AWS region, e.g. `pulumi config set aws:region us-west-2`.\n"
    )


@contextmanager
def errors(doing: str = "", service: str = "STS") -> Iterator[None]:
    """Say botocore's errors as the provider does: `creating S3 Bucket (x): operation error S3: CreateBucket, ...`."""
    import botocore.exceptions

    try:
        yield
    except botocore.exceptions.ClientError as exc:
        raise ProviderFailed(_told(doing, operation_error(exc, service))) from exc
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.HTTPClientError) as exc:
        raise ProviderFailed(_told(doing, f"operation error {service}: {exc}")) from exc
    except ProviderFailed as exc:
        raise type(exc)(_told(doing, str(exc))) from exc


def _told(doing: str, what: str) -> str:
    return f"{doing}: {what}" if doing else what


def operation_error(error: Any, service: str) -> str:
    """A ClientError in the words of the SDK that the real provider is built on."""
    answer, meta = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
    return (
        f"operation error {service}: {error.operation_name}, "
        f"https response error StatusCode: {meta.get('HTTPStatusCode')}, RequestID: {meta.get('RequestId', '')}, "
        f"api error {answer.get('Code')}: {answer.get('Message')}"
    )


def code(error: Any) -> str:
    return error.response.get("Error", {}).get("Code", "")


def tag_list(tags: Any) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in (tags or {}).items()]


def tags_of(given: Any) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in given or ()}


def tag_changes(old: Properties, new: Properties) -> tuple[dict[str, str], list[str]]:
    """The tags to set and the names of those to take away."""
    before, after = old.get("tags") or {}, new.get("tags") or {}
    return {key: value for key, value in after.items() if before.get(key) != value}, sorted(before.keys() - after)
