"""`platform explain`: which code, in which form, and where."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from buildflow.diagnostics import CODES
from buildflow.explanations import explanation, files
from tests.harness import PLATFORM, environment, platform


@pytest.mark.parametrize("written", ["BF214", "bf214", "214"])
def test_a_code_is_explained_in_markdown(written: str, tmp_path: Path) -> None:
    result = platform(tmp_path, "explain", written)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.strip() == explanation("BF214").markdown.strip()


def test_as_json(tmp_path: Path) -> None:
    about = explanation("BF201")
    assert json.loads(platform(tmp_path, "explain", "BF201", "--json").stdout) == {
        "code": "BF201",
        "title": "unknown key",
        "explanation": about.text,
        "wrong": files(about.wrong),
        "right": files(about.right),
    }
    assert set(files(about.wrong)) == {"buildflow.yaml", "app.py"}


def test_without_a_code_all_are_listed(tmp_path: Path) -> None:
    listed = platform(tmp_path, "explain").stdout
    assert all(code in listed and title in listed for code, title in CODES.items())
    as_data = json.loads(platform(tmp_path, "explain", "--json").stdout)
    assert {entry["code"]: entry["title"] for entry in as_data} == CODES


@pytest.mark.parametrize(("written", "words"), [("BF2144", "BF214"), ("bf299", "BF2"), ("unknown", "lists all")])
def test_an_unknown_code_is_wrong_usage_and_the_closest_are_named(written: str, words: str, tmp_path: Path) -> None:
    result = platform(tmp_path, "explain", written, COLUMNS="200")
    assert (result.returncode, result.stdout) == (2, "")
    assert f'there is no code "{written}"' in result.stderr
    assert words in result.stderr


@pytest.mark.parametrize(("code", "words"), [("BF105", "$ platform check"), ("BF201", "force_destory")])
def test_on_a_terminal_it_is_rendered(code: str, words: str, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    variables = environment(TERM="xterm-256color", COLUMNS="100")
    del variables["NO_COLOR"]
    with subprocess.Popen([*PLATFORM, "explain", code], cwd=tmp_path, env=variables, stdout=theirs) as process:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
    os.close(ours)
    text = shown.decode()
    assert process.returncode == 0
    assert f"{code}: {CODES[code]}" in text
    assert "\x1b[" in text
    assert "```" not in text
    assert all(word in text for word in ("Wrong", "Right", "buildflow.yaml", words))


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other end is closed
        return b""
