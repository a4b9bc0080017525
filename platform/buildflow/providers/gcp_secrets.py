"""GCP Secret Manager as a store of secrets.

It speaks HTTP, not gRPC: a pool's main process may ask for a secret before it forks, and gRPC does not survive that.
Source: https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access
"""

import functools
import json
import re
import warnings
from collections.abc import Mapping
from typing import Any

from buildflow.errors import BuildflowError, ServiceUnavailable
from buildflow.providers.secrets import SecretResolver, cloud_sdk

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
_SECONDS = 10.0
"""How long one look-up may take, repetitions included."""
_HINTS = {
    403: "give its identity the role roles/secretmanager.secretAccessor",
    401: "sign in with `gcloud auth application-default login`, or give the stack's `gcp_service_account_info`",
}


class GcpSecretManager:
    """The latest version of the secret `prefix + name` in the stack's project. `settings` are the stack's `gcp` block,
    whose own `${secret.X}` come from the `nearer` places; `endpoint` is another one than Google's."""

    def __init__(
        self, prefix: str, settings: Mapping[str, Any], nearer: SecretResolver, endpoint: str | None = None
    ) -> None:
        self._prefix = prefix
        self._settings = settings
        self._nearer = nearer
        self._endpoint = endpoint

    def place(self, name: str) -> str:
        return f'GCP Secret Manager as "{self._prefix}{name}"'

    def get(self, name: str) -> str | None:
        if not _ID.fullmatch(self._prefix or "-"):
            words = f"`prefix: {self._prefix}` cannot begin a name in GCP Secret Manager"
            raise BuildflowError(words, hint="its names hold letters, digits, - and _ only")
        if not _ID.fullmatch(self._prefix + name):
            return None  # such as `db.password`: no secret there can bear that name
        core = cloud_sdk("google.api_core.exceptions", "gcp")
        auth = cloud_sdk("google.auth.exceptions", "gcp")
        network = cloud_sdk("requests", "gcp").RequestException
        try:
            return self._access(name)
        except core.NotFound:
            return None
        except core.GoogleAPICallError as exc:
            raise self._failed(name, exc.message, _HINTS.get(exc.code or 0, "")) from None
        except (auth.GoogleAuthError, core.GoogleAPIError, network) as exc:
            hint = _HINTS[401] if isinstance(exc, auth.GoogleAuthError) else ""
            raise self._failed(name, str(exc), hint) from None

    def _failed(self, name: str, reason: str, hint: str) -> ServiceUnavailable:
        return ServiceUnavailable(f"{self.place(name)} cannot be read: {self._nearer.masked(reason)}", hint=hint)

    def _access(self, name: str) -> str:
        client, project = self._connected
        again = cloud_sdk("google.api_core.retry", "gcp").Retry(timeout=_SECONDS)
        path = f"projects/{project}/secrets/{self._prefix}{name}/versions/latest"
        answer = client.access_secret_version(name=path, retry=again, timeout=_SECONDS)
        try:
            return bytes(answer.payload.data).decode()
        except UnicodeDecodeError:  # whose text holds what it read
            raise ServiceUnavailable(f"{self.place(name)} is no UTF-8 text") from None

    @functools.cached_property
    def _connected(self) -> tuple[Any, str]:
        """The client, and the project that it asks."""
        settings = self._nearer.put_in(self._settings)
        credentials, own_project = _credentials(settings.get("gcp_service_account_info"))
        project = settings.get("project") or own_project
        if not project:
            raise BuildflowError("GCP Secret Manager has no project", hint="write the stack's `gcp: {project: ...}`")
        client = cloud_sdk("google.cloud.secretmanager_v1", "gcp").SecretManagerServiceClient(
            credentials=credentials,
            transport="rest",
            client_options={"api_endpoint": self._endpoint} if self._endpoint else None,
        )
        return client, str(project)


def _credentials(info: str | None) -> tuple[Any, str | None]:
    """Credentials and their project: of a key in JSON, or the application default ones."""
    auth = cloud_sdk("google.auth", "gcp")
    if not info:
        found, project = auth.default(scopes=_SCOPES)
        return found, project
    try:
        with warnings.catch_warnings():
            # it warns of configurations from strangers: this one is the user's own
            warnings.simplefilter("ignore", DeprecationWarning)
            found, project = auth.load_credentials_from_dict(json.loads(info), scopes=_SCOPES)
    except (ValueError, auth.exceptions.GoogleAuthError):  # whose text may hold a part of it
        words = "`gcp_service_account_info` is no service account key and no workload identity configuration"
        raise ServiceUnavailable(words, hint="it is the JSON that Google Cloud gives out for either") from None
    return found, project
