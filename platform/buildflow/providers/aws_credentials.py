"""How a stack signs in to AWS: its own keys, a profile, a role to assume, or boto3's default chain. One mechanism for
whatever asks AWS: drivers at run time, and AWS Secrets Manager."""

import functools
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from buildflow.providers.secrets import cloud_sdk

KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
CONNECTIONS = 32
"""Connections that one client keeps, at most: sources ask for several groups at once."""
_HINTS = {
    "NoRegionError": "write the stack's `aws: {region: ...}`, or set AWS_DEFAULT_REGION",
    "NoCredentialsError": "sign in with `aws configure` or `aws sso login`, or give the stack's `aws` keys",
    "PartialCredentialsError": "give both `aws_access_key_id` and `aws_secret_access_key`",
    "ProfileNotFound": "name one of ~/.aws/config in the stack's `aws: {profile: ...}`",
    "TokenRetrievalError": "sign in again: `aws sso login`",
    "SSOTokenLoadError": "sign in: `aws sso login`",
    "UnauthorizedSSOTokenError": "sign in again: `aws sso login`",
}


def sign_in_hint(exc: BaseException) -> str:
    """What to do about an exception of botocore that says how the stack is signed in; empty for another one."""
    return _HINTS.get(type(exc).__name__, "")


@dataclass(frozen=True)
class AwsSignIn:
    """A boto3 session with a stack's settings."""

    settings: Mapping[str, Any]
    session: Any

    def client(self, service: str, region: str | None = None) -> Any:
        patience = cloud_sdk("botocore.config", "aws").Config(
            connect_timeout=5,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 5},
            max_pool_connections=CONNECTIONS,
        )
        return self.session.client(
            service, region_name=region, endpoint_url=self.settings.get("endpoint_url"), config=patience
        )


def session_of(settings: Mapping[str, Any]) -> AwsSignIn:
    """Sign in by a stack's `aws:` block. A role's credentials are renewed before they expire."""
    boto3 = cloud_sdk("boto3", "aws")
    missing = [name for name in KEYS[:2] if not settings.get(name)]
    if len(missing) == 1:
        partial = cloud_sdk("botocore.exceptions", "aws").PartialCredentialsError
        raise partial(provider="the stack's `aws` block", cred_var=missing[0])
    session = boto3.Session(
        region_name=settings.get("region") or os.environ.get("AWS_REGION"),  # boto3 itself does not read that one
        profile_name=settings.get("profile"),
        **{name: settings.get(name) for name in KEYS},
    )
    if role := settings.get("role_arn"):
        session = boto3.Session(botocore_session=_as_role(session, role, settings.get("endpoint_url")))
    return AwsSignIn(settings, session)


def _as_role(session: Any, role: str, endpoint: str | None) -> Any:
    """A botocore session that has taken a role with a boto3 session's credentials."""
    credentials = cloud_sdk("botocore.credentials", "aws")
    own = session.get_credentials()
    if own is None:
        raise cloud_sdk("botocore.exceptions", "aws").NoCredentialsError
    create = functools.partial(session.client, endpoint_url=endpoint)
    fetcher = credentials.AssumeRoleCredentialFetcher(
        create, own, role, extra_args={"RoleSessionName": "buildflow"}, cache={}
    )
    assumed = cloud_sdk("botocore.session", "aws").get_session()
    assumed.set_config_variable("region", session.region_name)
    # botocore has no public way to set credentials that renew themselves
    assumed._credentials = credentials.DeferredRefreshableCredentials(
        method="assume-role", refresh_using=fetcher.fetch_credentials
    )
    return assumed


class AwsClients:
    """One process's clients, thread-safe. None crosses a fork: a child signs in for itself."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self._signed_in: AwsSignIn | None = None
        self._begin()

    def client(self, service: str, region: str | None = None) -> Any:
        """A boto3 client of `service` ("s3", "sqs"), in the stack's region unless another is named."""
        if self._pid != os.getpid():
            self._begin()
        with self._lock:
            if (service, region) not in self._clients:
                self._signed_in = self._signed_in or session_of(self.settings)
                self._clients[service, region] = self._signed_in.client(service, region)
            return self._clients[service, region]

    def sign_out(self) -> None:
        """Sign in anew at the next use: what was expired may have been replaced where it came from."""
        self._begin()

    def close(self) -> None:
        """Close this process's connections. What is asked for afterwards connects anew."""
        clients = list(self._clients.values()) if self._pid == os.getpid() else []
        self._begin()
        for client in clients:
            client.close()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str | None], Any] = {}
        self._signed_in = None
