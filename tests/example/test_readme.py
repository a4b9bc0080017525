"""The README's "Your own project", as it stands there: it compiles, and it works."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from buildflow.errors import UnknownName
from buildflow.testing import app
from tests.harness import ROOT, environment

FILES = re.findall(r"^```\w+ title=(\S+)\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)

TEST = """
from buildflow.testing import app

def test_a_sale():
    with app("buildflow.yaml") as a:
        a.send("orders", {"item": "tea"})
        assert a.rows("sales", at_least=1) == [{"item": "tea", "amount": 1}]
        assert a.http.get("/sales").json() == [{"item": "tea", "amount": 1}]

def test_a_wait_in_vain_says_why():
    with app("buildflow.yaml") as a:
        a.send("orders", {"thing": "tea"})
        try:
            a.rows("sales", at_least=1, timeout=1)
        except AssertionError as exc:
            assert '"sell" last failed: ' in str(exc) and "Undecodable" in str(exc)
        else:
            raise SystemExit("it found a row")
"""


def test_the_readmes_own_project_works_under_plain_pytest(tmp_path: Path) -> None:
    """From tests/ of a folder that is not on the path: the handlers are found from the project's own."""
    assert [name for name, _ in FILES] == ["buildflow.yaml", "app.py"]
    for name, text in FILES:
        (tmp_path / name).write_text(text)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_app.py").write_text(TEST)
    pytest_script = Path(sys.executable).with_name("pytest")
    result = subprocess.run(
        [pytest_script, "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout
    assert "2 passed" in result.stdout


def test_a_misspelt_replacement_is_told_so() -> None:
    with (
        pytest.raises(UnknownName, match='modle; did you mean "model"'),
        app(ROOT / "buildflow.yaml", replace={"modle": 1}),
    ):
        pass
