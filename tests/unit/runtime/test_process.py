"""What a process says of itself: in the log, to its supervisor, in words; never a secret that it has resolved."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildflow.errors import BuildflowError
from buildflow.ir.runtime import RuntimePlan, SecretsPlan
from buildflow.providers.secret_mask import Mask
from buildflow.runtime import process
from buildflow.runtime.connections import Connections
from buildflow.runtime.process import Notify, in_words


@pytest.fixture(autouse=True)
def mask(monkeypatch: pytest.MonkeyPatch) -> Mask:
    """The process's mask, which knows one secret."""
    own = Mask()
    own.add("hunter2")
    monkeypatch.setattr(process, "masked", own)
    return own


def formatted(message: str, *arguments: object, exc: BaseException | None = None) -> str:
    failure = (type(exc), exc, None) if exc else None
    record = logging.LogRecord("app", logging.WARNING, "app.py", 1, message, arguments, failure)
    return process._Format("worker", False).format(record)


def test_a_log_line_is_starred_with_its_arguments_and_its_traceback() -> None:
    assert formatted("it is %s", "hunter2").endswith("worker     WARNING it is ********")
    assert formatted("no luck", exc=ValueError("with hunter2")).endswith("no luck\nValueError: with ********")


def test_a_failure_in_words_is_starred() -> None:
    assert in_words(ValueError("with hunter2")) == "ValueError: with ********"
    assert in_words(BuildflowError("with hunter2", hint="not hunter2")) == "with ******** (not ********)"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_what_the_supervisor_is_told_is_starred_before_it_is_cut(pipe: tuple[int, int]) -> None:
    read, write = pipe
    Notify(write)("failed", "x" * 497 + "hunter2")
    assert json.loads(os.read(read, 4096)) == {"state": "failed", "error": "x" * 497 + "***"}


CODE = """
import sys, threading
from buildflow.providers.secret_mask import masked
from buildflow.runtime.process import set_up_logging
set_up_logging("worker", "INFO")
masked.add("hunter2")
def fail(): raise ValueError("with hunter2")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
{end}
"""


@pytest.mark.parametrize(("end", "code", "count"), [("fail()", 1, 2), ("sys.exit(3)", 3, 1)])
def test_what_nobody_caught_is_a_traceback_all_the_same_and_starred(end: str, code: int, count: int) -> None:
    ended = subprocess.run([sys.executable, "-c", CODE.format(end=end)], capture_output=True, text=True, check=False)
    assert ended.returncode == code
    assert ended.stderr.count("ValueError: with ********") == ended.stderr.count("Traceback") == count
    assert ended.stderr.count("worker") >= count
    assert '\n  File "<string>", line ' in ended.stderr
    assert "hunter2" not in ended.stderr


def test_of_libraries_warnings_alone_are_shown() -> None:
    code = """
import logging
from buildflow.runtime.process import set_up_logging
set_up_logging("worker", "INFO")
for name in ("buildflow.worker", "botocore.credentials", "botocore.regions", "boto3.resources", "urllib3.util"):
    logging.getLogger(name).info("told by %s", name)
    logging.getLogger(name).warning("warned by %s", name)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line.rpartition(" ")[2] for line in ended.stderr.splitlines() if "told by" in line] == ["buildflow.worker"]
    assert ended.stderr.count("warned by") == 5


def test_a_plan_s_secrets_are_put_in_where_they_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_USER", "shop-user")
    (tmp_path / "secrets.env").write_text("SHOP_PASSWORD=hunter2-of-the-file\n")
    plan = RuntimePlan(project="shop", stack="local", provider="local", dir="", secrets=SecretsPlan(file="secrets.env"))
    connections = Connections(plan, tmp_path)
    url = "redis://${secret.SHOP_USER}:${secret.SHOP_PASSWORD}@cache"
    resolved = connections.resolve({"urls": [url], "text": "$${secret.SHOP_USER}"})
    assert resolved == {"urls": ["redis://shop-user:hunter2-of-the-file@cache"], "text": "${secret.SHOP_USER}"}
    assert "hunter2" not in f"{connections!r} {connections.secrets!r} {vars(connections)!r}"
