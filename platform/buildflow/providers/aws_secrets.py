"""AWS Secrets Manager as a store of secrets.

Source: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
"""

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

from buildflow.errors import ServiceUnavailable
from buildflow.providers.secrets import SecretResolver, cloud_sdk

_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_DENIED = ("AccessDenied", "AccessDeniedException")
_HINTS = {
    "NoRegionError": "write the stack's `aws: {region: ...}`, or set AWS_DEFAULT_REGION",
    "NoCredentialsError": "sign in with `aws configure` or `aws sso login`, or give the stack's `aws` keys",
    "ProfileNotFound": "name one of ~/.aws/config in the stack's `aws: {profile: ...}`",
}


class AwsSecretsManager:
    """The current version of the secret `prefix + name`, through boto3. `settings` are the stack's `aws` block, whose
    own `${secret.X}` come from the `nearer` places."""

    def __init__(self, prefix: str, settings: Mapping[str, Any], nearer: SecretResolver) -> None:
        self._prefix = prefix
        self._settings = settings
        self._nearer = nearer

    def place(self, name: str) -> str:
        return f'AWS Secrets Manager as "{self._prefix}{name}"'

    def get(self, name: str) -> str | None:
        errors = cloud_sdk("botocore.exceptions", "aws")
        try:
            with contextlib.closing(self._client()) as client:
                answer = client.get_secret_value(SecretId=self._prefix + name)
        except errors.ClientError as exc:
            if exc.response["Error"]["Code"] == "ResourceNotFoundException":
                return None
            raise self._refused(name, exc) from None
        except (errors.BotoCoreError, ValueError) as exc:
            words = f"{self.place(name)} cannot be asked for: {self._nearer.masked(str(exc))}"
            raise ServiceUnavailable(words, hint=_HINTS.get(type(exc).__name__, "")) from None
        return _text(answer, self.place(name))

    def _refused(self, name: str, exc: Any) -> ServiceUnavailable:
        code = exc.response["Error"]["Code"]
        hint = ""
        if code in _DENIED and exc.operation_name == "GetSecretValue":
            hint = f"allow secretsmanager:GetSecretValue on {self._prefix}{name}, and kms:Decrypt on its key"
        return ServiceUnavailable(f"{self.place(name)} is not given: {self._nearer.masked(str(exc))}", hint=hint)

    def _client(self) -> Any:
        """A client a look-up (3 ms): a role's credentials last an hour, a process longer."""
        if role := self._settled.get("role_arn"):
            with contextlib.closing(self._service("sts")) as sts:
                given = sts.assume_role(RoleArn=role, RoleSessionName="buildflow")["Credentials"]
            keys = (given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
            return self._service("secretsmanager", **dict(zip(_KEYS, keys, strict=True)))
        return self._service("secretsmanager")

    def _service(self, name: str, **keys: str) -> Any:
        patience = cloud_sdk("botocore.config", "aws").Config(
            connect_timeout=5, read_timeout=10, retries={"mode": "standard", "total_max_attempts": 3}
        )
        return self._session.client(name, endpoint_url=self._settled.get("endpoint_url"), config=patience, **keys)

    @functools.cached_property
    def _session(self) -> Any:
        settings = self._settled
        keys = {name: settings.get(name) for name in _KEYS}
        return cloud_sdk("boto3", "aws").Session(
            region_name=settings.get("region"), profile_name=settings.get("profile"), **keys
        )

    @functools.cached_property
    def _settled(self) -> dict[str, Any]:
        """The settings with their own secrets put in."""
        return self._nearer.put_in(self._settings)


def _text(answer: Mapping[str, Any], place: str) -> str:
    if "SecretString" in answer:
        return str(answer["SecretString"])
    try:
        return bytes(answer["SecretBinary"]).decode()
    except UnicodeDecodeError:  # whose text holds what it read
        raise ServiceUnavailable(f"{place} is no UTF-8 text") from None
