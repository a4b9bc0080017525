"""What `platform explain` says is true: each wrong example has exactly the mistake that it is about."""

import re
from pathlib import Path

import pytest

from buildflow import explanations
from buildflow.compiler import Compilation, compile_file
from buildflow.diagnostics import CODES
from buildflow.explanations import explanation, files

FOLDER = Path(explanations.__file__).parent


def compiled(folder: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Compilation:
    for name, text in files.items():
        (folder / name).write_text(text)
    monkeypatch.chdir(folder)
    return compile_file(Path("buildflow.yaml"), environment={})


@pytest.mark.parametrize("code", CODES)
def test_the_wrong_example_has_this_mistake_and_no_other(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = compiled(tmp_path, files(explanation(code).wrong), monkeypatch).diagnostics
    assert {d.code for d in found} == {code}, found


@pytest.mark.parametrize("code", CODES)
def test_the_right_example_has_none(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = files(explanation(code).right)
    found = compiled(tmp_path, right, monkeypatch).diagnostics
    assert not found, found
    assert right != files(explanation(code).wrong)


@pytest.mark.parametrize("code", CODES)
def test_an_explanation_is_short_and_in_the_users_words(code: str) -> None:
    about = explanation(code)
    prose = about.markdown.partition("\n## Wrong")[0].splitlines()[1:]
    assert about.markdown.splitlines()[0] == f"# {CODES[code]}"
    assert re.findall(r"^## .*$", about.markdown, re.MULTILINE) == ["## Wrong", "## Right"]
    assert 2 <= len([line for line in prose if line]) <= 8
    assert max(map(len, about.markdown.splitlines())) <= 120
    assert not [word for word in ("NoneType", "Traceback", "pydantic.", "dict[") if word in about.text]


def test_every_file_explains_a_code_that_exists() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} == set(CODES)
