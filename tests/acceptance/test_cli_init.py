"""`platform init`: each template is a project that is right, is tested, and runs."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from jsonschema import Draft202012Validator

from buildflow.cli import templates
from tests.harness import PLATFORM, Running, environment, platform, processes_in, rows, running, wait_for
from tests.pictures import picture

TEMPLATES = ("service", "collector", "consumer", "image-classification")


def made(folder: Path, template: str, *arguments: str) -> Path:
    result = platform(folder, "init", "shop", "--template", template, *arguments)
    assert result.returncode == 0, result.stderr
    return folder / "shop"


# every template is right, and its own tests pass


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_new_project_has_neither_mistakes_nor_warnings(tmp_path: Path, template: str) -> None:
    folder = made(tmp_path, template)
    result = platform(folder, "check", "--json")
    assert json.loads(result.stdout) == {"ok": True, "diagnostics": []}
    assert yaml.safe_load((folder / "buildflow.yaml").read_text())["project"] == "shop"
    own = [path for path in folder.rglob("*") if path.is_file() and path.name != templates.SCHEMA]
    assert not [path for path in own if templates.PLACEHOLDER.encode() in path.read_bytes()]


@pytest.mark.parametrize("template", TEMPLATES)
def test_its_own_tests_pass(tmp_path: Path, template: str) -> None:
    folder = made(tmp_path, template)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=folder, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout


@pytest.mark.parametrize("template", TEMPLATES)
def test_its_editor_finds_the_schema_offline(tmp_path: Path, template: str) -> None:
    folder = made(tmp_path, template)
    first, *_ = (folder / "buildflow.yaml").read_text().splitlines()
    assert first == "# yaml-language-server: $schema=buildflow.schema.json"
    schema = json.loads((folder / "buildflow.schema.json").read_text())
    Draft202012Validator(schema).validate(yaml.safe_load((folder / "buildflow.yaml").read_text()))
    assert schema == json.loads(platform(folder, "schema").stdout)


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_a_run_leaves_is_not_committed(tmp_path: Path, template: str) -> None:
    ignored = (made(tmp_path, template) / ".gitignore").read_text().splitlines()
    assert {".buildflow/", ".env"} <= set(ignored)


def test_every_folder_of_templates_is_tested_here() -> None:
    assert set(templates.names()) == set(TEMPLATES)
    assert templates.names()[0] == "service"


# every template runs


def use_service(app: Running) -> None:
    added = httpx2.post(f"{app.url}/notes", json={"text": "buy tea", "tags": ["shop"]}, timeout=60)
    assert added.status_code == 201
    assert app.get_json(f"/notes/{added.json()['id']}")["text"] == "buy tea"
    assert [note["tags"] for note in app.get_json("/notes?search=tea&limit=1")] == [["shop"]]
    assert httpx2.get(f"{app.url}/docs", timeout=60).status_code == 200
    assert [row["text"] for row in rows(app.folder, "notes")] == ["buy tea"]


def use_collector(app: Running) -> None:
    assert httpx2.post(f"{app.url}/visits", json=[{"page": "/", "visitor": "ada"}], timeout=60).status_code == 201
    assert app.get_json("/visits") == [{"page": "/", "visits": 1, "visitors": 1}]
    assert [row["visitor"] for row in rows(app.folder, "visits")] == ["ada"]


def use_consumer(app: Running) -> None:
    assert httpx2.post(f"{app.url}/orders", json={"item": "tea", "amount": 2}, timeout=60).status_code == 202
    sale = {"item": "tea", "amount": 2, "total": 900}
    assert wait_for(lambda: app.get_json("/sales")) == [sale]
    assert platform(app.folder, "send", "orders", '{"item": "gold"}').returncode == 0
    (letter,) = wait_for(lambda: rows(app.folder, "failures"))
    assert "there is no gold" in letter["error"]
    assert rows(app.folder, "sales") == [sale]


def use_image_classification(app: Running) -> None:
    assert b'action="/image-upload"' in app.get("/")
    answer = httpx2.post(f"{app.url}/image-upload", files={"image_file": ("a sky.png", picture("blue"))}, timeout=30)
    assert answer.status_code == 200
    (row,) = wait_for(lambda: app.get_json("/image-upload-results"))
    assert row["image"] == answer.json()["image"]
    assert row["labels"][0]["name"] == "blue"
    assert [found["model"] for found in rows(app.folder, "classifications")] == ["colours"]


USES: dict[str, Callable[[Running], None]] = {
    "service": use_service,
    "collector": use_collector,
    "consumer": use_consumer,
    "image-classification": use_image_classification,
}


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
def test_it_runs_until_ctrl_c_and_leaves_nothing(tmp_path: Path, template: str) -> None:
    with running(made(tmp_path, template)) as app:
        USES[template](app.ready())
        app.stop()
        assert app.process.returncode == 0, app.text
        assert processes_in(app.folder) == []
        assert "Traceback" not in app.text


# what it says


def test_it_shows_what_it_made_and_what_to_do_next(tmp_path: Path) -> None:
    result = platform(tmp_path, "init", "my shop", "--template", "consumer")
    assert (result.returncode, result.stdout) == (0, "")
    said = result.stderr.splitlines()
    assert said[0] == "✓ made the project my-shop from the template consumer"
    assert "├── app" in said
    assert "│   └── web.py" in said
    assert said[said.index("next:") :][1:4] == ["  cd 'my shop'", "  platform check", "  platform run --apply"]
    assert said[-2] == "then, from another terminal:"
    assert said[-1].startswith("  curl -X POST http://127.0.0.1:8000/orders ")


def test_without_a_directory_it_is_made_here(tmp_path: Path) -> None:
    here = tmp_path / "2 Übungen"
    here.mkdir()
    result = platform(here, "init")
    assert "made the project app-2-ubungen from the template service" in result.stderr
    assert "cd " not in result.stderr
    assert platform(here, "check").returncode == 0


def test_as_json_it_names_what_it_made(tmp_path: Path) -> None:
    found = json.loads(platform(tmp_path, "init", "a/b", "--name", "tea", "--json").stdout)
    assert (found["directory"], found["project"], found["template"]) == ("a/b", "tea", "service")
    written = [
        path.relative_to(tmp_path / "a/b").as_posix() for path in (tmp_path / "a/b").rglob("*") if path.is_file()
    ]
    assert sorted(found["files"]) == sorted(written)


def test_the_list_names_every_template_in_a_line(tmp_path: Path) -> None:
    lines = platform(tmp_path, "init", "--list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(templates.names())
    assert all(len(line.split()) > 5 and len(line) <= 75 for line in lines), "it fits a terminal, numbered too"
    as_data = json.loads(platform(tmp_path, "init", "--list", "--json").stdout)
    assert [entry["name"] for entry in as_data] == list(templates.names())
    assert list(tmp_path.iterdir()) == []


# what it refuses


def test_files_that_are_there_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "shop/app").mkdir(parents=True)
    (tmp_path / "shop/app/web.py").write_text("mine")
    (tmp_path / "shop/README.md").symlink_to("nowhere")
    (tmp_path / "shop/tests").write_text("a file where a folder would be")
    before = sorted(tmp_path.rglob("*"))
    result = platform(tmp_path, "init", "shop")
    assert result.returncode == 1
    assert "nothing was written" in result.stderr
    assert [line.strip() for line in result.stderr.splitlines() if line.startswith("         ")] == [
        "README.md", "app/web.py", "tests/test_app.py",
    ]  # fmt: skip
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "shop/app/web.py").read_text() == "mine"


def test_other_files_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "shop/app").mkdir(parents=True)
    (tmp_path / "shop/app/other.py").write_text("mine")
    made(tmp_path, "service")
    assert (tmp_path / "shop/app/other.py").read_text() == "mine"
    assert not list((tmp_path / "shop").glob(".init-*"))


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("mine")
    result = platform(tmp_path, "init", "shop")
    assert (result.returncode, result.stdout) == (1, "")
    assert "shop is a file" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--template", "consumr"), 'there is no template "consumr"; did you mean "consumer"?'),
        (("--name", "My_Shop"), '"My_Shop" is no project name: lower-case letters'),
        (("--name", "1shop"), "a letter first"),
        (("--name", ""), "is no project name"),
    ],
)
def test_a_wrong_name_is_wrong_usage(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    result = platform(tmp_path, "init", "shop", *arguments, COLUMNS="200")
    assert (result.returncode, result.stdout) == (2, "")
    assert words in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("broken_at", range(1, 9))
def test_a_failure_leaves_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_at: int) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/mine.txt").write_text("mine")
    calls = 0
    rename = os.rename

    def fails(*names: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == broken_at:
            raise OSError(28, "No space left on device")
        rename(*names)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(OSError, match="No space"):
        templates.write(templates.files("service", "shop"), tmp_path / "shop")
    assert [path.name for path in (tmp_path / "shop").rglob("*")] == ["mine.txt"]


# questions


def on_a_terminal(folder: Path, answers: str, *arguments: str) -> tuple[int, str]:
    """The command with a terminal for stdin and stderr: its exit code, and what it showed there."""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "r+b", buffering=0) as terminal:
        process = subprocess.Popen(
            [*PLATFORM, "init", *arguments], cwd=folder, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        terminal.write(answers.encode())
        shown = b""
        while chunk := _read(terminal):
            shown += chunk
        return process.wait(timeout=30), shown.decode().replace("\r\n", "\n")


def _read(terminal: Any) -> bytes:
    try:
        return bytes(terminal.read(4096) or b"")
    except OSError:  # Linux's way to say that the other end is closed
        return b""


def test_on_a_terminal_it_asks_until_the_answers_are_right(tmp_path: Path) -> None:
    code, shown = on_a_terminal(tmp_path, "9\n3\nMy Shop\ntea-shop\n", "shop")
    assert code == 0
    assert all(f"{number}  {name}" in shown for number, name in enumerate(templates.names(), 1))
    assert 'there is no template "9"' in shown
    assert '"My Shop" is no project name' in shown
    assert "Name of the project [shop]: " in shown
    assert yaml.safe_load((tmp_path / "shop/buildflow.yaml").read_text())["project"] == "tea-shop"
    assert (tmp_path / "shop/app/sell.py").exists(), "the third is the consumer"


def test_an_empty_answer_is_the_default(tmp_path: Path) -> None:
    assert on_a_terminal(tmp_path, "\n\n", "shop")[0] == 0
    assert (tmp_path / "shop/app/notes.py").exists()


def test_what_the_options_say_is_not_asked(tmp_path: Path) -> None:
    code, shown = on_a_terminal(tmp_path, "", "shop", "--template", "collector", "--name", "tea")
    assert code == 0
    assert shown.startswith("✓ made the project tea")


def test_the_end_of_input_writes_nothing(tmp_path: Path) -> None:
    code, shown = on_a_terminal(tmp_path, "\x04", "shop")
    assert code == 1
    assert "nothing was written" in shown
    assert list(tmp_path.iterdir()) == []
