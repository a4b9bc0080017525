"""What holds for the whole repository: its floors, what starting it imports, what is generated."""

import getpass
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from buildflow.compiler.schema import json_schema
from docs.generate_reference import reference

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
SLOW_TO_IMPORT = (
    *("fastapi", "starlette", "uvicorn", "celery", "kombu", "redis", "duckdb", "pyarrow", "psutil", "watchfiles"),
    *("boto3", "botocore", "google.cloud", "pulumi", "torch", "imageai", "PIL", "jsonschema", "graphlay"),
)

LOADED = """
import atexit, sys
sys.argv[0] = "platform"
atexit.register(lambda: print("\\n".join(sorted(sys.modules)), file=sys.__stderr__))
from buildflow.cli.main import main
main()
"""


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "platform")}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_platform_has_no_init() -> None:
    """With one, it would shadow the standard library's `platform` for every tool that starts at the root."""
    assert not (ROOT / "platform/__init__.py").exists()
    result = run(sys.executable, "-c", "import platform; print(platform.system())")
    assert result.returncode == 0
    assert result.stdout.strip()


def test_the_floors_hold() -> None:
    result = run(str(BIN / "lint-imports"))
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


@pytest.mark.parametrize("arguments", [("check",), ("check", "--json"), ("--help",), ("schema",)], ids=" ".join)
def test_starting_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    """`check` has 0.4 s for the whole process: a framework or a cloud's SDK would take most of it."""
    result = run(sys.executable, "-c", LOADED, *arguments)
    assert result.returncode == 0, result.stderr
    loaded = set(result.stderr.splitlines())
    assert "buildflow.compiler" in loaded
    assert loaded.isdisjoint(SLOW_TO_IMPORT)


def test_check_does_not_load_what_only_colours_its_help() -> None:
    result = run(sys.executable, "-c", LOADED, "check")
    assert "rich.console" not in result.stderr.splitlines()


def test_the_schema_is_current() -> None:
    """`make generate` writes it."""
    assert json.loads((ROOT / "schemas/buildflow.schema.json").read_text()) == json_schema()
    result = run(str(BIN / "platform"), "schema")
    assert result.stdout == (ROOT / "schemas/buildflow.schema.json").read_text()


def test_the_reference_is_current() -> None:
    """`make generate` writes it from the models, and every key says what it means."""
    page = reference()
    assert (ROOT / "docs/reference.md").read_text("utf-8") == page
    assert not [line for line in page.splitlines() if line.startswith("| `") and line.rstrip().endswith("|  |")]


def test_nothing_above_names_a_primitive() -> None:
    """The registry finds the folders; only primitives that build on each other may import one another."""
    primitives = ROOT / "platform/buildflow/primitives"
    folders = [p.parent.name for p in primitives.glob("*/__init__.py")]
    outside = [p for p in (ROOT / "platform/buildflow").rglob("*.py") if primitives not in p.parents]
    naming = [p for p in outside for name in folders if f"buildflow.primitives.{name}" in p.read_text("utf-8")]
    assert folders
    assert naming == []


def repository_files() -> list[Path]:
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_this_machine() -> None:
    """A path that only exists here is a promise that breaks elsewhere."""
    here = [str(ROOT), str(Path.home()) + "/"]
    if getpass.getuser() != "root":
        here.append(f"/home/{getpass.getuser()}")
    files = repository_files()
    assert len(files) > 50
    found = [
        f"{path.relative_to(ROOT)}: {place}"
        for path in files
        for place in here
        if len(place) > 2 and place.encode() in path.read_bytes()
    ]
    assert found == []
