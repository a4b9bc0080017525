"""AWS Secrets Manager as a store of secrets.

Source: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html
"""

import functools
from collections.abc import Mapping
from typing import Any

from buildflow.errors import ServiceUnavailable
from buildflow.providers.aws_credentials import AwsClients, sign_in_hint
from buildflow.providers.aws_errors import DENIED, EXPIRED, code_of
from buildflow.providers.secrets import SecretResolver, cloud_sdk


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
            answer = self._clients.client("secretsmanager").get_secret_value(SecretId=self._prefix + name)
        except errors.ClientError as exc:
            if code_of(exc) == "ResourceNotFoundException":
                return None
            raise self._refused(name, exc) from None
        except (errors.BotoCoreError, ValueError) as exc:
            words = f"{self.place(name)} cannot be asked for: {self._nearer.masked(str(exc))}"
            raise ServiceUnavailable(words, hint=sign_in_hint(exc)) from None
        return _text(answer, self.place(name))

    def _refused(self, name: str, exc: Any) -> ServiceUnavailable:
        code = code_of(exc)
        hint = ""
        if code in DENIED and exc.operation_name == "GetSecretValue":
            hint = f"allow secretsmanager:GetSecretValue on {self._prefix}{name}, and kms:Decrypt on its key"
        if code in EXPIRED:
            self._clients.sign_out()
        return ServiceUnavailable(f"{self.place(name)} is not given: {self._nearer.masked(str(exc))}", hint=hint)

    @functools.cached_property
    def _clients(self) -> AwsClients:
        """By the settings with their own secrets put in."""
        return AwsClients(self._nearer.put_in(self._settings))


def _text(answer: Mapping[str, Any], place: str) -> str:
    if "SecretString" in answer:
        return str(answer["SecretString"])
    try:
        return bytes(answer["SecretBinary"]).decode()
    except UnicodeDecodeError:  # whose text holds what it read
        raise ServiceUnavailable(f"{place} is no UTF-8 text") from None
