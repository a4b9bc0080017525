"""AWS Secrets Manager: real boto3 against moto's server on loopback."""

import contextlib
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from buildflow.errors import BuildflowError, ServiceUnavailable, UnknownName
from buildflow.ir.runtime import SecretsPlan
from buildflow.providers.aws_secrets import AwsSecretsManager
from buildflow.providers.secret_mask import STARS, Mask
from buildflow.providers.secrets import EnvironmentSecrets, SecretResolver, open_secrets

ROLE = "arn:aws:iam::123456789012:role/reader"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody is signed in on this machine."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def settings(endpoint: str) -> dict[str, Any]:
    keys = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "wJalrXUtnFEMI"}
    return {"region": "eu-central-1", "endpoint_url": endpoint, **keys}


@pytest.fixture(scope="module")
def client(endpoint: str) -> Iterator[Any]:
    session = boto3.Session("a", "b", region_name="eu-central-1")
    with contextlib.closing(session.client("secretsmanager", endpoint_url=endpoint)) as client:
        yield client


@pytest.fixture
def manager(client: Any) -> Iterator[Any]:
    """The service itself, empty."""
    yield client
    for secret in client.list_secrets(IncludePlannedDeletion=True)["SecretList"]:
        client.delete_secret(SecretId=secret["ARN"], ForceDeleteWithoutRecovery=True)


def store(settings: Mapping[str, Any], prefix: str = "") -> AwsSecretsManager:
    return AwsSecretsManager(prefix, settings, SecretResolver([EnvironmentSecrets()], Mask()))


def secrets_of(root: Path, settings: Mapping[str, Any], **plan: str) -> SecretResolver:
    return open_secrets(SecretsPlan(store="aws_secrets_manager", settings=settings, **plan), root, Mask())


def refused(settings: Mapping[str, Any], name: str = "KEY", prefix: str = "") -> ServiceUnavailable:
    with pytest.raises(ServiceUnavailable) as caught:
        store(settings, prefix).get(name)
    return caught.value


# what it holds


def test_text_and_bytes(manager: Any, settings: dict[str, Any]) -> None:
    manager.create_secret(Name="TEXT", SecretString="hunter2 ü")
    manager.create_secret(Name="BYTES", SecretBinary="hunter3 ü".encode())
    assert (store(settings).get("TEXT"), store(settings).get("BYTES")) == ("hunter2 ü", "hunter3 ü")


def test_what_is_not_there(manager: Any, settings: dict[str, Any]) -> None:
    assert store(settings).get("MISSING") is None


def test_the_prefix_stands_before_the_name(manager: Any, settings: dict[str, Any]) -> None:
    manager.create_secret(Name="shop/prod/KEY", SecretString="of the shop")
    manager.create_secret(Name="KEY", SecretString="of nobody")
    assert store(settings, "shop/prod/").get("KEY") == "of the shop"
    assert store(settings, "shop/").get("KEY") is None
    assert store(settings, "shop/").place("KEY") == 'AWS Secrets Manager as "shop/KEY"'


def test_the_current_version(manager: Any, settings: dict[str, Any]) -> None:
    manager.create_secret(Name="KEY", SecretString="first")
    manager.put_secret_value(SecretId="KEY", SecretString="second")
    assert store(settings).get("KEY") == "second"


def test_a_secret_without_a_version_is_not_there(manager: Any, settings: dict[str, Any]) -> None:
    manager.create_secret(Name="KEY")
    assert store(settings).get("KEY") is None


def test_another_region_is_another_place(manager: Any, settings: dict[str, Any]) -> None:
    manager.create_secret(Name="KEY", SecretString="hunter2")
    assert store({**settings, "region": "us-west-2"}).get("KEY") is None


def test_bytes_that_are_no_text(manager: Any, settings: dict[str, Any]) -> None:
    manager.create_secret(Name="KEY", SecretBinary=b"hunter2\xff")
    error = refused(settings)
    assert str(error) == 'AWS Secrets Manager as "KEY" is no UTF-8 text'
    assert error.__suppress_context__


# who asks


def asked_by(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The access key ids of requests from now on."""
    from botocore.httpsession import URLLib3Session

    seen: list[str] = []
    send = URLLib3Session.send

    def spy(self: Any, request: Any) -> Any:
        authorization = request.headers["Authorization"]
        text = authorization.decode() if isinstance(authorization, bytes) else authorization
        seen.append(text.partition("Credential=")[2].partition("/")[0])
        return send(self, request)

    monkeypatch.setattr(URLLib3Session, "send", spy)
    return seen


def test_the_stack_s_own_keys(manager: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = asked_by(monkeypatch)
    store(settings).get("KEY")
    assert seen == ["AKIDEXAMPLE"]


def test_the_default_chain(manager: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = asked_by(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOFENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of env")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    store({"endpoint_url": settings["endpoint_url"]}).get("KEY")
    assert seen == ["AKIDOFENV"]


def test_a_profile(manager: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = asked_by(monkeypatch)
    keys = "aws_access_key_id = AKIDOFPROFILE\naws_secret_access_key = x\n"
    (tmp_path / "config").write_text(f"[profile shop]\nregion = eu-central-1\n{keys}")
    store({"profile": "shop", "endpoint_url": settings["endpoint_url"]}).get("KEY")
    assert seen == ["AKIDOFPROFILE"]


def test_a_role_is_taken_once_and_again_before_it_expires(
    manager: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its credentials last an hour; a process lasts longer."""
    manager.create_secret(Name="KEY", SecretString="hunter2")
    seen = asked_by(monkeypatch)
    one = store({**settings, "role_arn": ROLE})
    assert one.get("KEY") == "hunter2"
    assert one.get("MISSING") is None
    in_an_hour = datetime.now(UTC) + timedelta(hours=1)
    assert one._clients._signed_in
    monkeypatch.setattr(one._clients._signed_in.session.get_credentials(), "_time_fetcher", lambda: in_an_hour)
    monkeypatch.setattr("botocore.credentials._local_now", lambda: in_an_hour)
    assert one.get("KEY") == "hunter2"
    own, first, second, own_again, third = seen
    assert own == own_again == "AKIDEXAMPLE"
    assert first == second
    assert first.startswith("ASIA")
    assert third.startswith("ASIA")
    assert third != first


def test_a_forked_child_signs_in_for_itself(manager: Any, settings: dict[str, Any]) -> None:
    manager.create_secret(Name="KEY", SecretString="hunter2")
    one = store({**settings, "role_arn": ROLE})
    assert one.get("KEY") == "hunter2"
    clients = one._clients
    before = clients.client("secretsmanager")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.write(writing, (one.get("KEY") or "").encode())
            os.write(writing, b"!" if clients.client("secretsmanager") is before else b"")
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        assert answer.read() == b"hunter2"
    os.waitpid(child, 0)


def test_its_own_keys_may_be_secrets_of_a_nearer_place(
    manager: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manager.create_secret(Name="shop/API_KEY", SecretString="hunter2")
    manager.create_secret(Name="shop/AWS_SECRET", SecretString="never asked for")
    seen = asked_by(monkeypatch)
    monkeypatch.setenv("AWS_ID", "AKIDOFSECRET")
    (tmp_path / "secrets.env").write_text("AWS_SECRET=of-the-file\n")
    theirs = {"aws_access_key_id": "${secret.AWS_ID}", "aws_secret_access_key": "${secret.AWS_SECRET}"}
    secrets = secrets_of(tmp_path, {**settings, **theirs}, file="secrets.env", prefix="shop/")
    assert secrets.get("API_KEY") == "hunter2"
    assert seen == ["AKIDOFSECRET"]
    assert secrets.masked("of-the-file and hunter2") == f"{STARS} and {STARS}"


def test_its_own_keys_cannot_come_out_of_itself(settings: dict[str, Any], tmp_path: Path) -> None:
    secrets = secrets_of(tmp_path, {**settings, "aws_access_key_id": "${secret.NOT_SET_KEY_ID}"})
    with pytest.raises(UnknownName, match=r"secret NOT_SET_KEY_ID is not set; looked for in the environment, \.env$"):
        secrets.get("API_KEY")


# with the other places


def test_it_comes_last_and_is_asked_for_what_the_others_lack(
    manager: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manager.create_secret(Name="NEAR", SecretString="store")
    manager.create_secret(Name="FAR", SecretString="store")
    seen = asked_by(monkeypatch)
    (tmp_path / ".env").write_text("NEAR=env file\n")
    secrets = secrets_of(tmp_path, settings)
    assert (secrets.get("NEAR"), seen) == ("env file", [])
    assert (secrets.get("FAR"), secrets.get("FAR"), len(seen)) == ("store", "store", 1)


def test_a_field_of_a_json_object(manager: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    manager.create_secret(Name="shop/db", SecretString=json.dumps({"username": "shop", "password": "hunter2"}))
    secrets = secrets_of(tmp_path, settings, prefix="shop/")
    assert (secrets.get("db.username"), secrets.get("db.password")) == ("shop", "hunter2")


def test_what_is_nowhere_names_it_too(manager: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    secrets = secrets_of(tmp_path, settings, prefix="shop/")
    places = r'the environment, \.env, AWS Secrets Manager as "shop/MISSING"$'
    with pytest.raises(UnknownName, match=f"the secret MISSING is not set; looked for in {places}"):
        secrets.get("MISSING")


# what it refuses


def test_a_refusal_says_what_to_allow(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """moto knows no policies of Secrets Manager: the answer is the service's own, as AWS writes it."""
    said = "User: arn:aws:iam::1:user/shop is not authorized to perform: secretsmanager:GetSecretValue on resource: KEY"
    error = answered(monkeypatch, settings, 400, json.dumps({"__type": "AccessDeniedException", "Message": said}))
    assert str(error).startswith('AWS Secrets Manager as "shop/KEY" is not given: ')
    assert str(error).endswith(f"(AccessDeniedException) when calling the GetSecretValue operation: {said}")
    assert error.hint == "allow secretsmanager:GetSecretValue on shop/KEY, and kms:Decrypt on its key"


def answered(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], status: int, body: str) -> ServiceUnavailable:
    from botocore.awsrequest import AWSResponse
    from botocore.httpsession import URLLib3Session

    class Raw:
        def stream(self, **_: Any) -> Iterator[bytes]:
            yield body.encode()

    monkeypatch.setattr(URLLib3Session, "send", lambda _, request: AWSResponse(request.url, status, {}, Raw()))
    return refused(settings, prefix="shop/")


def test_a_secret_that_is_to_be_deleted(manager: Any, settings: dict[str, Any]) -> None:
    manager.create_secret(Name="KEY", SecretString="hunter2")
    manager.delete_secret(SecretId="KEY", RecoveryWindowInDays=7)
    error = refused(settings)
    assert 'AWS Secrets Manager as "KEY" is not given: ' in str(error)
    assert "InvalidRequestException" in str(error)


def test_a_role_that_may_not_be_taken(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    xml = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not yours</Message></Error></ErrorResponse>"
    error = answered(monkeypatch, {**settings, "role_arn": ROLE}, 403, xml)
    assert str(error).endswith("(AccessDenied) when calling the AssumeRole operation: not yours")
    assert error.hint == ""


def test_nobody_is_signed_in(endpoint: str) -> None:
    error = refused({"region": "eu-central-1", "endpoint_url": endpoint})
    assert str(error) == 'AWS Secrets Manager as "KEY" cannot be asked for: Unable to locate credentials'
    assert "aws configure" in error.hint


def test_no_region_is_known(settings: dict[str, Any]) -> None:
    error = refused({**settings, "region": None})
    assert "cannot be asked for: You must specify a region" in str(error)
    assert "aws: {region: ...}" in error.hint


def test_a_profile_that_is_not_there(settings: dict[str, Any]) -> None:
    error = refused({"profile": "nobody", "region": "eu-central-1", "endpoint_url": settings["endpoint_url"]})
    assert "The config profile (nobody) could not be found" in str(error)
    assert "profile" in error.hint


def test_nobody_answers(settings: dict[str, Any]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        error = refused({**settings, "endpoint_url": url})
    assert f'Could not connect to the endpoint URL: "{url}/"' in str(error)


def test_an_endpoint_that_is_none(settings: dict[str, Any]) -> None:
    assert "cannot be asked for: Invalid endpoint" in str(refused({**settings, "endpoint_url": "http://a b"}))


def test_a_key_that_no_header_can_hold_is_not_told(
    manager: Any, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ID", "AKID-WITH\nA-NEWLINE")
    secrets = secrets_of(tmp_path, {**settings, "aws_access_key_id": "${secret.AWS_ID}"})
    with pytest.raises(ServiceUnavailable) as caught:
        secrets.get("KEY")
    assert "AKID-WITH" not in f"{caught.value!r}"
    assert caught.value.__suppress_context__


# without boto3


@pytest.mark.parametrize("missing", ["boto3", "botocore"])
def test_without_boto3_the_command_that_installs_it_is_told(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(BuildflowError, match="the `aws` extra, which is not installed") as caught:
        store(settings).get("KEY")
    assert caught.value.hint == "pip install 'buildflow-platform[aws]'"
