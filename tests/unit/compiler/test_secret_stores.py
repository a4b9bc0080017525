"""What `check` tells of a stack's secrets, and what it keeps to itself."""

import os
from pathlib import Path
from typing import Any

import pytest

from buildflow.compiler import compile_file
from buildflow.diagnostics import Diagnostic, Severity

CANARY = "canary-5c1d"


def found(folder: Path, secrets: str, key: str = "KEY", **given: Any) -> list[Diagnostic]:
    (folder / "app.py").write_text("def client(key): ...\ndef index(client): ...\n")
    (folder / "buildflow.yaml").write_text(
        f"project: shop\nstacks:\n  local: {{provider: local, secrets: {secrets}}}\n"
        f"dependencies:\n  client: {{factory: app:client, with: {{key: '${{secret.{key}}}'}}}}\n"
        "routes: {GET /: app:index}\n"
    )
    return list(compile_file(folder / "buildflow.yaml", **{"environment": {}, **given}).diagnostics)


@pytest.mark.parametrize("place", ["environment", ".env", "secrets.env", "mounted"])
def test_a_secret_is_found_in_every_place_of_this_machine(place: str, tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    (tmp_path / "secrets.env").touch()
    line, environment = f"KEY={CANARY}\n", {}
    if place == "environment":
        environment = {"KEY": CANARY}
    elif place == "mounted":
        (tmp_path / "mounted/KEY").write_text(CANARY)
    else:
        (tmp_path / place).write_text(line)
    secrets = f"{{file: {'mounted' if place == 'mounted' else 'secrets.env'}}}"
    assert found(tmp_path, secrets, environment=environment) == []
    missing = found(tmp_path, secrets, key="KEYS", environment=environment)
    assert [(d.code, d.severity) for d in missing] == [("BF126", Severity.WARNING)]
    assert CANARY not in str(missing)


def test_a_field_that_lacks_does_not_show_the_others_values(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f'DB={{"password": "{CANARY}"}}\n')
    (told,) = found(tmp_path, "{}", key="DB.pasword")
    assert (told.message, told.hint) == ('the secret DB has no field "pasword"', "its fields: password")


def test_a_tests_own_stack_may_do_without_the_file(tmp_path: Path) -> None:
    assert [d.severity for d in found(tmp_path, "{file: secrets.env}")] == [Severity.ERROR]
    extra = {"test": {"provider": "local"}}
    (told,) = found(tmp_path, "{file: secrets.env}", stack="test", extra_stacks=extra)
    assert (told.code, told.severity) == ("BF105", Severity.WARNING)


def test_a_pipe_is_left_to_the_processes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "secrets.env")
    assert found(tmp_path, "{file: secrets.env}") == []


def test_a_name_that_no_file_has(tmp_path: Path) -> None:
    (told,) = found(tmp_path, '{file: "x\\0"}')
    assert (told.code, told.message) == ("BF105", "no file has this name")
