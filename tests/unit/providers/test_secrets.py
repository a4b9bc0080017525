"""Where a secret is looked for, in what order, and what is said when it is nowhere."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from buildflow.errors import BuildflowError, ServiceUnavailable, UnknownName
from buildflow.ir.runtime import SecretsPlan
from buildflow.providers.env_file import env_file_in_environment
from buildflow.providers.secret_mask import Mask
from buildflow.providers.secrets import EnvFileSecrets, EnvironmentSecrets, FileSecrets, SecretResolver, open_secrets

VALUE = "s3cr3t-value"


class Fake:
    """A store that counts what it is asked for."""

    def __init__(self, values: Mapping[str, str], refuses: tuple[str, ...] = (), name: str = "the fake") -> None:
        self.values = values
        self.refuses = refuses
        self.name = name
        self.asked: list[str] = []

    def get(self, name: str) -> str | None:
        self.asked.append(name)
        if name in self.refuses:
            raise ServiceUnavailable(f"{self.name} refuses {name}")
        return self.values.get(name)

    def place(self, name: str) -> str:
        return f"{self.name} as {name}"


def resolver(*stores: Fake) -> SecretResolver:
    return SecretResolver(stores, Mask())


# the stores


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", VALUE)
    monkeypatch.setenv("SHOP_EMPTY", "")
    monkeypatch.delenv("SHOP_OTHER", raising=False)
    store = EnvironmentSecrets()
    assert (store.get("SHOP_KEY"), store.get("SHOP_EMPTY"), store.get("SHOP_OTHER")) == (VALUE, "", None)


def test_the_env_file(tmp_path: Path) -> None:
    store = EnvFileSecrets(tmp_path)
    assert store.get("SHOP_KEY") is None
    (tmp_path / ".env").write_text(f"# mine\nexport SHOP_KEY='{VALUE}'\nBARE\n")
    assert (store.get("SHOP_KEY"), store.get("BARE"), store.get("OTHER")) == (VALUE, None, None)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("KEY=plain", "plain"),
        ("KEY = spaced ", "spaced"),
        ('KEY="two\\nlines"', "two\nlines"),
        ("KEY='as it is'", "as it is"),
        ("KEY=a=b", "a=b"),
        ("KEY=${HOME} and $HOME", "${HOME} and $HOME"),
        ("KEY=", ""),
        ("KEY=old\nKEY=new", "new"),
        ("db-password.main=x1", None),
    ],
)
def test_a_file_of_lines(tmp_path: Path, line: str, value: str | None) -> None:
    (tmp_path / "secrets.env").write_text(f"FIRST=1\n{line}\nLAST=2\n")
    store = FileSecrets(tmp_path / "secrets.env")
    assert (store.get("FIRST"), store.get("KEY"), store.get("LAST")) == ("1", value, "2")


def test_a_file_may_begin_with_the_mark_that_windows_puts_there(tmp_path: Path) -> None:
    (tmp_path / "secrets.env").write_text("KEY=value\n", encoding="utf-8-sig")
    assert FileSecrets(tmp_path / "secrets.env").get("KEY") == "value"


def test_a_file_s_names_are_those_of_a_reference(tmp_path: Path) -> None:
    (tmp_path / "secrets.env").write_text(f"db-password.main={VALUE}\n")
    assert FileSecrets(tmp_path / "secrets.env").get("db-password.main") == VALUE


@pytest.mark.parametrize(
    ("content", "value"),
    [("one", "one"), ("one\n", "one"), ("one\r\n", "one"), ("one\n\n", "one\n"), (" one ", " one "), ("", "")],
)
def test_a_folder_with_a_file_a_secret(tmp_path: Path, content: str, value: str) -> None:
    (tmp_path / "api_key").write_bytes(content.encode())
    (tmp_path / "folder").mkdir()
    store = FileSecrets(tmp_path)
    assert (store.get("api_key"), store.get("folder"), store.get("other")) == (value, None, None)


def test_a_folder_as_kubernetes_mounts_it(tmp_path: Path) -> None:
    (tmp_path / "..2026_01_01").mkdir()
    (tmp_path / "..2026_01_01/api-key").write_text(VALUE)
    (tmp_path / "..data").symlink_to("..2026_01_01")
    (tmp_path / "api-key").symlink_to("..data/api-key")
    assert FileSecrets(tmp_path).get("api-key") == VALUE


def test_a_file_that_comes_later_is_found_then(tmp_path: Path) -> None:
    """A dependency that fails for want of a secret is tried again."""
    secrets = SecretResolver([FileSecrets(tmp_path / "secrets.env", "secrets.env")], Mask())
    with pytest.raises(UnknownName, match=r"looked for in secrets\.env \(which does not exist\)"):
        secrets.get("KEY")
    (tmp_path / "secrets.env").write_text("OTHER=1")
    with pytest.raises(UnknownName, match=r"looked for in secrets\.env$"):
        secrets.get("KEY")
    (tmp_path / "secrets.env").write_text(f"KEY={VALUE}")
    assert secrets.get("KEY") == VALUE


def test_a_file_that_cannot_be_read_is_told_in_words(tmp_path: Path) -> None:
    name = "K" * 300  # root may read whatever a file's mode is
    with pytest.raises(ServiceUnavailable, match=f"mounted cannot be read for the secret {name}: file name too long"):
        FileSecrets(tmp_path, "mounted").get(name)


@pytest.mark.parametrize("name", ["secrets.env", "folder", ".env"])
def test_what_is_no_utf_8_is_told_without_what_was_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    for file in ("secrets.env", "folder/KEY", ".env"):
        (tmp_path / file).write_bytes(b"KEY=hunter2\xff\n")
    store = EnvFileSecrets(tmp_path) if name == ".env" else FileSecrets(tmp_path / name, name)
    with pytest.raises(BuildflowError, match=r"no UTF-8 text") as caught:
        store.get("KEY")
    assert caught.value.__suppress_context__
    assert name in str(caught.value)
    assert "hunter2" not in f"{caught.value!r}"


# the order


def secrets_of(root: Path, settings: Mapping[str, str] | None = None, **plan: str) -> SecretResolver:
    return open_secrets(SecretsPlan(**plan, settings=settings or {}), root, Mask())


def test_the_nearest_place_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "environment")
    (tmp_path / ".env").write_text("A=env file\nB=env file\n")
    (tmp_path / "secrets.env").write_text("A=file\nB=file\nC=file\n")
    secrets = secrets_of(tmp_path, file="secrets.env")
    assert [secrets.get(name) for name in "ABC"] == ["environment", "env file", "file"]


def test_a_folder_is_named_relative_to_the_project_or_from_the_root(tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted/KEY").write_text("mounted\n")
    assert secrets_of(tmp_path, file="mounted").get("KEY") == "mounted"
    assert secrets_of(Path("/elsewhere"), file=str(tmp_path / "mounted")).get("KEY") == "mounted"


def test_a_later_store_is_asked_only_for_what_the_earlier_ones_lack() -> None:
    near, far = Fake({"A": "near"}), Fake({"A": "far", "B": "far"})
    secrets = resolver(near, far)
    assert (secrets.get("A"), secrets.get("B")) == ("near", "far")
    assert far.asked == ["B"]


def test_a_secret_is_asked_for_once_a_process() -> None:
    store = Fake({"A": "1234"})
    secrets = resolver(store)
    threads = [threading.Thread(target=secrets.get, args=("A",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert secrets.get("A") == "1234"
    assert store.asked == ["A"]


def test_nothing_is_read_before_a_secret_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff")
    secrets = secrets_of(tmp_path, {"region": "${secret.REGION}"}, file="none", store="aws_secrets_manager")
    with pytest.raises(BuildflowError, match="no UTF-8 text"):
        secrets.get("ANY_SECRET_AT_ALL")


# what is nowhere


def test_what_is_nowhere_names_every_place_and_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("API_KEY", raising=False)
    (tmp_path / "mounted").mkdir()
    with pytest.raises(UnknownName) as caught:
        secrets_of(tmp_path, file="mounted").get("API_KEY")
    assert str(caught.value) == ("the secret API_KEY is not set; looked for in the environment, .env, mounted/API_KEY")
    assert caught.value.hint == "give API_KEY in one of them: export API_KEY=... before the start"


def test_a_name_that_a_shell_cannot_export_is_told_without_export() -> None:
    with pytest.raises(UnknownName) as caught:
        resolver(Fake({})).get("api-key")
    assert caught.value.hint == "give api-key in one of them"


def test_what_was_not_found_is_asked_for_again() -> None:
    store = Fake({})
    secrets = resolver(store)
    with pytest.raises(UnknownName):
        secrets.get("A")
    store.values = {"A": "1234"}
    assert secrets.get("A") == "1234"


# fields


DATABASE = '{"username": "shop", "password": "hunter2", "port": 5432, "tls": true, "options": {"a": 1}, "none": null}'


@pytest.mark.parametrize(
    ("name", "value"),
    [("password", "hunter2"), ("port", "5432"), ("tls", "true"), ("options", '{"a": 1}')],
)
def test_a_name_with_a_dot_is_a_field_of_a_json_object(name: str, value: str) -> None:
    assert resolver(Fake({"db": DATABASE})).get(f"db.{name}") == value


def test_only_the_first_dot_parts_a_name() -> None:
    assert resolver(Fake({"db": '{"user.name": "shop"}'})).get("db.user.name") == "shop"


def test_a_whole_name_wins_over_a_field() -> None:
    assert resolver(Fake({"db": DATABASE}), Fake({"db.password": "whole"})).get("db.password") == "whole"


def test_fields_of_one_secret_are_one_look_up() -> None:
    store = Fake({"db": DATABASE})
    secrets = resolver(store)
    assert secrets.get("db.username") + secrets.get("db.password") == "shophunter2"
    assert store.asked.count("db") == 1


def test_a_store_that_refuses_the_whole_name_may_hold_the_object() -> None:
    """A policy that allows reading `db` does not say of `db.password` that there is none, but that it is refused."""
    store = Fake({"db": DATABASE}, refuses=("db.password", "x", "x.y"))
    secrets = resolver(store)
    assert secrets.get("db.password") == "hunter2"
    with pytest.raises(ServiceUnavailable, match=r"refuses x$"):
        secrets.get("x.y")
    store.refuses = ("x.y",)
    with pytest.raises(ServiceUnavailable, match=r"refuses x\.y$"):
        secrets.get("x.y")


@pytest.mark.parametrize(
    ("content", "words", "hint"),
    [
        (DATABASE, 'the secret db has no field "host"', "its fields: none, options, password, port, tls, username"),
        ("{}", 'the secret db has no field "host"', "its fields: none"),
        ('{"host": null}', 'the secret db has no field "host"', "its fields: host"),
        ("hunter2", 'the secret db holds no JSON object, so there is no field "host" in it', ""),
        ('["hunter2"]', 'the secret db holds no JSON object, so there is no field "host" in it', ""),
    ],
)
def test_a_field_that_is_not_there(content: str, words: str, hint: str) -> None:
    with pytest.raises(UnknownName) as caught:
        resolver(Fake({"db": content})).get("db.host")
    assert (str(caught.value), caught.value.hint) == (words, hint)
    assert "hunter2" not in f"{caught.value!r} {caught.value.__context__!r}"


def test_where_there_is_no_object_either_both_cures_are_told() -> None:
    with pytest.raises(UnknownName) as caught:
        resolver(Fake({})).get("db.host")
    assert caught.value.hint == 'give db.host in one of them, or db as a JSON object with the field "host"'


# what is shown


def test_no_repr_holds_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", VALUE)
    mask = Mask()
    secrets = SecretResolver([EnvironmentSecrets(), FileSecrets(tmp_path)], mask)
    secrets.get("SHOP_KEY")
    assert repr(secrets) == "SecretResolver(EnvironmentSecrets, FileSecrets)"
    assert VALUE not in f"{secrets!r} {secrets} {mask!r}"


def test_what_is_given_out_is_masked_from_then_on() -> None:
    mask = Mask()
    secrets = SecretResolver([Fake({"A": VALUE, "db": DATABASE})], mask)
    assert mask(f"it is {VALUE}") == f"it is {VALUE}"
    secrets.get("A")
    secrets.get("db.password")
    assert mask(f"they are {VALUE} and hunter2, not shop") == "they are ******** and ********, not shop"


# .env in a process's environment


def test_the_env_file_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SET", "own")
    monkeypatch.delenv("SHOP_NEW", raising=False)
    (tmp_path / ".env").write_text("SHOP_SET=file\nSHOP_NEW=file\n")
    before = dict(os.environ)
    with env_file_in_environment(tmp_path):
        assert (os.environ["SHOP_SET"], os.environ["SHOP_NEW"]) == ("own", "file")
    assert dict(os.environ) == before


def test_the_env_file_is_taken_out_after_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_NEW", raising=False)
    (tmp_path / ".env").write_text("SHOP_NEW=file\n")
    with pytest.raises(KeyError, match="a failure"), env_file_in_environment(tmp_path):
        raise KeyError("a failure")
    assert "SHOP_NEW" not in os.environ


def test_only_who_put_the_env_file_in_takes_it_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHOP_NEW", raising=False)
    (tmp_path / ".env").write_text("SHOP_NEW=file\n")
    with env_file_in_environment(tmp_path):
        with env_file_in_environment(tmp_path):
            pass
        assert os.environ["SHOP_NEW"] == "file"
    assert "SHOP_NEW" not in os.environ


def test_without_an_env_file_the_environment_stays(tmp_path: Path) -> None:
    before = dict(os.environ)
    with env_file_in_environment(tmp_path):
        assert dict(os.environ) == before
