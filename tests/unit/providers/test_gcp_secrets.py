"""GCP Secret Manager: Google's own client against a service on loopback that answers in the library's messages."""

import json
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt
from google.cloud.secretmanager_v1.types import AccessSecretVersionResponse, SecretPayload

from buildflow.errors import BuildflowError, ServiceUnavailable, UnknownName
from buildflow.providers import gcp_secrets
from buildflow.providers.gcp_secrets import GcpSecretManager
from buildflow.providers.secret_mask import STARS, Mask
from buildflow.providers.secrets import EnvironmentSecrets, FileSecrets, SecretResolver, SecretStore

UNIVERSE = "loopback.test"
"""In Google's own the library looks, in a thread of its own, for what regions an account may be used in."""
_ACCESS = re.compile(r"/v1/(projects/([^/]+)/secrets/([^/]+)/versions/latest):access")


class Service:
    """Secret Manager, as far as a look-up needs it. A service account signs its tokens itself: no sign-in is asked."""

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], bytes] = {}
        self.refusal: tuple[int, str, str] | None = None
        self.asked: list[str] = []
        self.identities: list[str] = []
        self.url = ""

    def answer(self, path: str, authorization: str) -> tuple[int, str]:
        match = _ACCESS.fullmatch(path.partition("?")[0])
        assert match, path
        self.asked.append(match[1])
        self.identities.append(authorization)
        if self.refusal:
            return self.refusal[0], _error(*self.refusal)
        data = self.secrets.get((match[2], match[3]))
        if data is None:
            return 404, _error(404, "NOT_FOUND", f"Secret [{match[1]}] not found or has no versions.")
        found = AccessSecretVersionResponse(name=match[1], payload=SecretPayload(data=data))
        return 200, AccessSecretVersionResponse.to_json(found)


def _error(code: int, status: str, message: str) -> str:
    return json.dumps({"error": {"code": code, "status": status, "message": message}})


@pytest.fixture
def service() -> Iterator[Service]:
    """The service on loopback."""
    state = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(*state.answer(self.path, self.headers["Authorization"]))

        def _send(self, status: int, body: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode()


@pytest.fixture
def key(service: Service, private_key: str) -> str:
    """A service account's key, as Google gives it out."""
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "of-the-key",
            "private_key_id": "1",
            "private_key": private_key,
            "client_email": "shop@of-the-key.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": f"{service.url}/token",
            "universe_domain": UNIVERSE,
        }
    )


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody is signed in on this machine."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", UNIVERSE)


def store(service: Service, settings: Mapping[str, Any], prefix: str = "", *nearer: SecretStore) -> GcpSecretManager:
    resolver = SecretResolver([EnvironmentSecrets(), *nearer], Mask())
    return GcpSecretManager(prefix, settings, resolver, endpoint=service.url)


@pytest.fixture
def settings(key: str) -> dict[str, str]:
    return {"project": "shop", "region": "us-central1", "gcp_service_account_info": key}


def refused(service: Service, settings: Mapping[str, Any]) -> ServiceUnavailable:
    with pytest.raises(ServiceUnavailable) as caught:
        store(service, settings).get("KEY")
    return caught.value


# what it holds


def test_the_latest_version(service: Service, settings: dict[str, str]) -> None:
    service.secrets["shop", "KEY"] = "hunter2 ü".encode()
    assert store(service, settings).get("KEY") == "hunter2 ü"
    assert service.asked == ["projects/shop/secrets/KEY/versions/latest"]
    token = jwt.decode(service.identities[0].removeprefix("Bearer "), verify=False)
    assert token["iss"] == "shop@of-the-key.iam.gserviceaccount.com"


def test_what_is_not_there(service: Service, settings: dict[str, str]) -> None:
    assert store(service, settings).get("KEY") is None


def test_the_prefix_stands_before_the_name(service: Service, settings: dict[str, str]) -> None:
    service.secrets["shop", "prod-KEY"] = b"hunter2"
    assert store(service, settings, "prod-").get("KEY") == "hunter2"
    assert store(service, settings, "prod-").place("KEY") == 'GCP Secret Manager as "prod-KEY"'


def test_a_field_of_a_json_object_asks_for_the_object_alone(service: Service, settings: dict[str, str]) -> None:
    """No secret there can bear a name with a dot."""
    service.secrets["shop", "db"] = b'{"password": "hunter2"}'
    assert SecretResolver([store(service, settings)], Mask()).get("db.password") == "hunter2"
    assert service.asked == ["projects/shop/secrets/db/versions/latest"]


def test_one_client_serves_all_look_ups(service: Service, settings: dict[str, str]) -> None:
    one = store(service, settings)
    assert [one.get("A"), one.get("B")] == [None, None]
    assert len(set(service.identities)) == 1


def test_bytes_that_are_no_text(service: Service, settings: dict[str, str]) -> None:
    service.secrets["shop", "KEY"] = b"hunter2\xff"
    error = refused(service, settings)
    assert str(error) == 'GCP Secret Manager as "KEY" is no UTF-8 text'
    assert error.__suppress_context__


def test_what_is_nowhere_names_it(service: Service, settings: dict[str, str]) -> None:
    with pytest.raises(UnknownName, match=r'looked for in GCP Secret Manager as "prod-KEY"$'):
        SecretResolver([store(service, settings, "prod-")], Mask()).get("KEY")


# who asks, and for what project


def test_the_project_of_the_key_where_the_stack_names_none(service: Service, key: str) -> None:
    store(service, {"gcp_service_account_info": key}).get("KEY")
    assert service.asked == ["projects/of-the-key/secrets/KEY/versions/latest"]


def test_the_application_default_credentials(
    service: Service, key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key.json").write_text(key)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    service.secrets["of-the-key", "KEY"] = b"hunter2"
    assert store(service, {}).get("KEY") == "hunter2"


def test_the_key_may_be_a_secret_of_a_nearer_place(service: Service, key: str, tmp_path: Path) -> None:
    (tmp_path / "GCP_KEY").write_text(key)
    settings = {"project": "shop", "gcp_service_account_info": "${secret.GCP_KEY}"}
    service.secrets["shop", "KEY"] = b"hunter2"
    assert store(service, settings, "", FileSecrets(tmp_path)).get("KEY") == "hunter2"
    assert service.asked == ["projects/shop/secrets/KEY/versions/latest"]


def test_no_project_is_known(service: Service, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    own = json.dumps({k: v for k, v in json.loads(key).items() if k != "project_id"})
    with pytest.raises(BuildflowError, match="has no project") as caught:
        store(service, {"gcp_service_account_info": own}).get("KEY")
    assert "gcp: {project: ...}" in caught.value.hint


# what it refuses


@pytest.mark.parametrize(
    ("code", "status", "message", "hint"),
    [
        (403, "PERMISSION_DENIED", "Permission 'secretmanager.versions.access' denied", "secretAccessor"),
        (401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", "gcloud auth"),
        (400, "FAILED_PRECONDITION", "Secret Version [1] is in DESTROYED state.", ""),
    ],
)
def test_a_refusal_is_told_in_the_service_s_words(
    service: Service, settings: dict[str, str], code: int, status: str, message: str, hint: str
) -> None:
    service.refusal = code, status, message
    error = refused(service, settings)
    assert str(error).startswith('GCP Secret Manager as "KEY" cannot be read: ')
    assert message in str(error)
    assert hint in error.hint
    assert bool(hint) == bool(error.hint)


def test_it_is_asked_again_for_a_while_when_it_is_busy(
    service: Service, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcp_secrets, "_SECONDS", 0.5)
    service.refusal = 503, "UNAVAILABLE", "The service is currently unavailable."
    assert "currently unavailable" in str(refused(service, settings))


def test_nobody_answers(service: Service, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gcp_secrets, "_SECONDS", 0.5)
    service.url = "http://127.0.0.1:9"
    assert "cannot be read: " in str(refused(service, settings))


def test_nobody_is_signed_in(service: Service) -> None:
    error = refused(service, {"project": "shop"})
    assert "default credentials were not found" in str(error)
    assert "gcloud auth application-default login" in error.hint


@pytest.mark.parametrize(
    "info",
    ['{"type": "service_account", "private_key": "hunter2"', '{"type": "service_account", "private_key": "hunter2"}'],
    ids=["no JSON", "no key"],
)
def test_a_key_that_is_none_is_not_told(service: Service, info: str) -> None:
    error = refused(service, {"project": "shop", "gcp_service_account_info": info})
    assert "gcp_service_account_info" in str(error)
    assert "hunter2" not in f"{error!r}"
    assert error.__suppress_context__


def test_a_message_that_holds_a_secret_is_masked(service: Service, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GCP_PROJECT_SECRET", "hunter2-project")
    service.refusal = 403, "PERMISSION_DENIED", "denied on projects/hunter2-project"
    error = refused(service, {"project": "${secret.GCP_PROJECT_SECRET}", "gcp_service_account_info": key})
    assert f"denied on projects/{STARS}" in str(error)


def test_a_prefix_that_no_name_there_can_have(service: Service, settings: dict[str, str]) -> None:
    with pytest.raises(BuildflowError, match="`prefix: prod/` cannot begin a name") as caught:
        store(service, settings, "prod/").get("KEY")
    assert caught.value.hint == "its names hold letters, digits, - and _ only"


# without the library


def test_without_the_library_the_command_that_installs_it_is_told(
    service: Service, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.secretmanager_v1", None)
    with pytest.raises(BuildflowError, match="the `gcp` extra, which is not installed") as caught:
        store(service, settings).get("KEY")
    assert caught.value.hint == "pip install 'buildflow-platform[gcp]'"
