"""Importing what `module:name` names: failures in one sentence, with the user's own line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from buildflow.errors import HandlerRejected
from buildflow.loading import load, named


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def refused(reference: str) -> HandlerRejected:
    with pytest.raises(HandlerRejected) as caught:
        load(reference)
    return caught.value


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("no_module", "\nimport nothere", "no_module.py:2: No module named 'nothere'"),
        ("no_name", "x = 1\nyy = z", "no_name.py:2: NameError: name 'z' is not defined"),
        ("no_python", "def f(:", "no_python.py:1: invalid syntax"),
        ("no_end", "\n\nimport sys\nsys.exit(3)", "no_end.py:4: SystemExit: 3"),
        ("no_number", "import json\njson.loads('{')", "no_number.py:2: JSONDecodeError: Expecting property name"),
        ("no_words", "raise ValueError", "no_words.py:1: ValueError"),
        ("many_lines", "raise ValueError('first\\nsecond')", "many_lines.py:1: ValueError: first"),
        (
            "no_model",
            "from pydantic import BaseModel\nclass M(BaseModel):\n    a: int\nM()",
            'no_model.py:4: ValidationError: "a" is missing',
        ),
    ],
)
def test_an_import_that_fails(folder: Path, name: str, text: str, why: str) -> None:
    (folder / f"{name}.py").write_text(text)
    said = str(refused(f"{name}:f"))
    assert said.startswith(f"{name}:f cannot be imported: {why}")
    assert "\n" not in said
    assert "http" not in said


def test_the_line_is_the_innermost_of_the_project(folder: Path) -> None:
    (folder / "outermost.py").write_text("import innermost")
    (folder / "innermost.py").write_text("import enum\n\nclass A(enum.Enum):\n    X = 1\n    X = 2")
    assert "innermost.py:" in str(refused("outermost:f"))
    assert "enum.py" not in str(refused("outermost:f"))


def test_what_to_install(folder: Path) -> None:
    (folder / "needs.py").write_text("import nothere.deeper")
    assert refused("needs:f").hint == "pip install nothere"
    assert refused("not_even_this:f").hint == ""


def test_names(folder: Path) -> None:
    (folder / "names.py").write_text("x = 1\nclass A:\n    def f(self): ...")
    assert named("names:x") == 1
    assert load("names:A.f").__name__ == "f"
    assert str(refused("names:x")) == "names:x is no function"
    assert str(refused("names:B")) == 'module "names" has no "B"'


def test_in_a_process_of_its_own(folder: Path) -> None:
    (folder / "loud.py").write_text("print('hello')\n1 / 0")
    (folder / "fine.py").write_text("print('hello')\ndef f(): ...")
    command = [sys.executable, "-m", "buildflow.loading", "fine:f", "loud:f", "fine:g", "loud:g"]
    asked = subprocess.run(command, capture_output=True, check=True)
    error = "loud:f cannot be imported: loud.py:2: ZeroDivisionError: division by zero"
    assert json.loads(asked.stdout) == [{"error": error, "hint": ""}]
