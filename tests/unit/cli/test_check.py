"""`platform check` as a process: what goes where, and its exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

GOOD = """\
project: shop
primitives:
  images: {type: bucket}
routes:
  GET /: app:index
"""
MISTAKEN = """\
project: shop
primitives:
  images: {type: buckt}
  photos: {type: bucket, name: a}
  others: {type: bucket, name: a}
routes:
  GET /: app:index
"""


def check(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "buildflow.cli.main", "check", *arguments]
    environment = {"PYTHONPATH": str(ROOT / "platform"), "PATH": os.environ["PATH"], "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def project(folder: Path, text: str) -> Path:
    (folder / "buildflow.yaml").write_text(text)
    (folder / "app.py").write_text("def index(images, photos=None, others=None): ...\n")
    return folder


def test_a_project_that_is_right_ends_with_0(tmp_path: Path) -> None:
    result = check(project(tmp_path, GOOD))
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr == "✓ buildflow.yaml is right for stack local: 1 primitive, 1 route, 0 consumers\n"


def test_a_mistake_ends_with_1_and_is_told_on_stderr(tmp_path: Path) -> None:
    result = check(project(tmp_path, MISTAKEN))
    assert (result.returncode, result.stdout) == (1, "")
    assert "error[BF205]" in result.stderr
    assert "--> buildflow.yaml:3:18" in result.stderr
    *_, verdict, more = result.stderr.splitlines()
    assert verdict == "✗ buildflow.yaml: 2 mistakes"
    assert more == "More about BF205, with an example: platform explain BF205"


def test_a_warning_ends_with_0(tmp_path: Path) -> None:
    text = GOOD.replace("routes:", "  jobs: {type: queue}\nroutes:")
    result = check(project(tmp_path, text))
    assert result.returncode == 0
    assert "warning[BF219]" in result.stderr
    assert "1 warning" in result.stderr


def test_what_keeps_the_project_from_running_is_named_before_a_warning(tmp_path: Path) -> None:
    text = GOOD.replace("images: {type: bucket}", "images: {type: bucket, name: no}") + "  GET /a: app:indx\n"
    result = check(project(tmp_path, text))
    assert result.stderr.index("warning[BF109]") < result.stderr.index("error[BF303]")
    assert result.stderr.endswith("platform explain BF303\n")


def test_wrong_usage_ends_with_2(tmp_path: Path) -> None:
    assert check(project(tmp_path, GOOD), "--no-such-option").returncode == 2
    assert check(tmp_path, "--set", "nonsense").returncode == 2
    assert check(tmp_path, "surplus").returncode == 2
    assert check(tmp_path, "--format", "xml").returncode == 2


def test_a_missing_file_ends_with_1(tmp_path: Path) -> None:
    result = check(tmp_path)
    assert result.returncode == 1
    assert "error[BF105]: there is no buildflow.yaml" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_stack_ends_with_1(tmp_path: Path) -> None:
    result = check(project(tmp_path, GOOD), "--stack", "locl")
    assert result.returncode == 1
    assert 'did you mean "local"?' in result.stderr


def test_json_of_a_right_project(tmp_path: Path) -> None:
    result = check(project(tmp_path, GOOD), "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout) == {"ok": True, "diagnostics": []}
    assert result.stderr == ""


def test_json_has_the_promised_shape(tmp_path: Path) -> None:
    result = check(project(tmp_path, MISTAKEN), "--json")
    assert result.returncode == 1
    assert check(tmp_path, "--format", "json").stdout == result.stdout
    shown = json.loads(result.stdout)
    assert shown["ok"] is False
    assert shown["diagnostics"][0] == {
        "severity": "error",
        "code": "BF205",
        "message": 'there is no primitive type "buckt"',
        "file": "buildflow.yaml",
        "line": 3,
        "column": 18,
        "end_line": 3,
        "end_column": 23,
        "hint": 'did you mean "bucket"?',
        "related": [],
    }
    twin = shown["diagnostics"][1]
    assert (twin["code"], twin["line"], twin["column"]) == ("BF221", 5, 3)
    assert twin["related"] == [{"message": "the other one", "file": "buildflow.yaml", "line": 4, "column": 3}]
    assert result.stderr == ""


def test_a_file_elsewhere_is_named_as_the_user_would(tmp_path: Path) -> None:
    """Handlers' files too: their paths start where the user is, not where the project is."""
    folder = tmp_path / "shop"
    folder.mkdir()
    project(folder, GOOD + "  GET /{id}: app:index\n")
    result = check(tmp_path, "--file", "shop/buildflow.yaml")
    assert result.returncode == 1
    assert "--> shop/buildflow.yaml:6:3" in result.stderr
    assert "--> shop/app.py:1:1" in result.stderr
    assert "1 | def index(" in result.stderr


def test_a_variable_can_be_given(tmp_path: Path) -> None:
    text = GOOD.replace("{type: bucket}", '{type: bucket, name: "${var.name}"}')
    assert check(project(tmp_path, text)).returncode == 1
    assert check(tmp_path, "--set", "var.name=pictures").returncode == 0


STACKS = """\
default_stack: local
stacks:
  local: {provider: local}
  other: {provider: local, variables: {size: "${env.SIZE}"}, routes: {GET /other: app:missing}}
"""


def test_the_values_and_handlers_of_other_stacks_need_all_stacks(tmp_path: Path) -> None:
    folder = project(tmp_path, GOOD + STACKS)
    assert check(folder).returncode == 0
    result = check(folder, "--all-stacks")
    assert result.returncode == 1
    assert "the environment variable SIZE is not set" in result.stderr
    assert 'module "app" has no "missing"' in result.stderr


def test_all_stacks_of_a_right_project(tmp_path: Path) -> None:
    result = check(
        project(tmp_path, GOOD + "stacks: {local: {provider: local}, b: {provider: local}}\n"), "--all-stacks"
    )
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr == "✓ buildflow.yaml is right for every stack; local has 1 primitive, 1 route, 0 consumers\n"


def test_help_teaches_by_example(tmp_path: Path) -> None:
    shown = check(tmp_path, "--help").stdout
    assert "platform check --fix" in shown
    assert "platform check --all-stacks --format sarif > check.sarif" in shown


def test_it_prints_what_the_readme_shows(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    file = readme.partition("\n```yaml\n")[2].partition("```")[0]
    shown = readme.partition("$ .venv/bin/platform check\n")[2].partition("```")[0]
    (tmp_path / "handlers_example").symlink_to(ROOT / "handlers_example")
    (tmp_path / "buildflow.yaml").write_text(file.replace("source: uploads", "source: upload"))
    assert check(tmp_path).stderr.startswith(shown)
    assert shown.startswith("error[BF210]")
