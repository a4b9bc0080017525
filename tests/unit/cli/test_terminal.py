"""What a reader sees, and what a prompt understands."""

import os
import pty
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from buildflow.cli.terminal import table
from tests.harness import PLATFORM, environment, platform, project

YAML = "project: shop\nprimitives: {orders: {type: queue}}\nconsumers: {note: {source: orders, handler: app:note}}\n"
APP = "def note(order) -> None: ...\n"
ASKED = 'Enter "y (yes)" to confirm, "n (no) to reject": '


def test_what_looks_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    table([{"item[bold]": "a[/b]", "note": "[red]tea[/red]"}, {"item[bold]": None, "note": 1}])
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("item[bold]", "a[/b]", "[red]tea[/red]"))
    assert "None" not in shown


def start(folder: Path, *arguments: str, stdin: int = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PLATFORM, *arguments], cwd=folder, env=environment(), text=True,
        stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
    )  # fmt: skip


def read_until(words: str, stream: Any) -> str:
    said = ""
    while words not in said:
        letter = stream.read(1)
        assert letter, said
        said += letter
    return said


def test_ctrl_c_at_a_prompt_is_a_no(tmp_path: Path) -> None:
    with start(project(tmp_path, YAML, app=APP), "apply") as asked:
        read_until(ASKED, asked.stderr)
        asked.send_signal(signal.SIGINT)
        assert asked.stderr is not None
        assert asked.stderr.read() == "\n✗ Changes rejected.\n"
        assert asked.wait() == 4


def test_another_answer_than_yes_or_no_is_told_so(tmp_path: Path) -> None:
    result = platform(project(tmp_path, YAML, app=APP), "apply", input="perhaps\nn\n")
    assert result.returncode == 4
    assert f"{ASKED}please answer y or n\n{ASKED}" in result.stderr


def test_send_says_that_it_reads_from_a_terminal(tmp_path: Path) -> None:
    assert platform(project(tmp_path, YAML, app=APP), "apply", "--yes").returncode == 0
    ours, theirs = pty.openpty()
    with start(tmp_path, "send", "orders", stdin=theirs) as sending:
        os.close(theirs)
        read_until("reading messages, a line each; Ctrl-D ends\n", sending.stderr)
        os.write(ours, b"{}\n\x04")
        _, said = sending.communicate(timeout=60)
        os.close(ours)
    assert said == "sent 1 to orders\n"
    assert "reading" not in platform(tmp_path, "send", "orders", input="{}\n").stderr


def test_no_answer_names_the_option_that_needs_none(tmp_path: Path) -> None:
    result = platform(project(tmp_path, YAML, app=APP), "apply")
    assert result.returncode == 4
    assert result.stderr.endswith(f"{ASKED}\nno answer came; `--yes` needs none\n✗ Changes rejected.\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("graph", "--format", "png"), "Invalid value for '--format': 'png' is not one of 'tree'"),
        (("run", "--port", "http"), "a whole number is expected"),
        (("gateway", "--workers", "0"), "it has to be greater than or equal to 1"),
        (("check", "--json", "--format", "sarif"), "--json and --format sarif name two formats; leave one out"),
        (("graph", "--json", "--format", "svg"), "--json and --format svg name two formats"),
        (("query", "orders", "--json", "--format", "csv"), "--json and --format csv name two formats"),
    ],
)
def test_wrong_usage_is_told_in_the_users_words(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    result = platform(tmp_path, *arguments, COLUMNS="200")
    assert (result.returncode, result.stdout) == (2, "")
    assert words in result.stderr
    assert not [said for said in ("Value error", "Input should") if said in result.stderr]


def test_a_narrow_terminal_breaks_the_long_column_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    error = "ConnectionError: the provider did not answer in 30 s"
    table([{"id": "9f8e7d6c", "at": "2026-11-21 07:00:00", "error": error}], unbroken=("id", "at"))
    shown = capsys.readouterr().out
    assert "9f8e7d6c │ 2026-11-21 07:00:00 │ " in shown
    assert "…" not in shown
