"""The compiler against files: every folder here is one case.

A case holds `buildflow.yaml` and what lies beside it, and what to expect: `diagnostics.txt` (the mistakes as
`platform check` prints them, in file order, with paths from the case's folder), or `graph.json` and
`runtime_plan.json` (both, where there are warnings only; a case named `good_...` has none).
`arguments.json`, where there is one, holds `stack`, `environment`, `variables` and `all_stacks`.

Adding a case is adding a folder. `BUILDFLOW_UPDATE_GOLDEN=1 pytest tests/golden` writes the expected files;
read them before you commit them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from buildflow.cli.terminal import render
from buildflow.compiler import Compilation, compile_file
from buildflow.diagnostics import CODES
from buildflow.ir.graph import ResourceGraph
from buildflow.ir.runtime import RuntimePlan

HERE = Path(__file__).parent
CASES = sorted(path.name for path in HERE.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))
MISTAKES = [name for name in CASES if (HERE / name / "diagnostics.txt").exists()]
GOOD = [name for name in CASES if (HERE / name / "runtime_plan.json").exists()]
UPDATE = "BUILDFLOW_UPDATE_GOLDEN" in os.environ

PYTHON_WORDS = (
    *("NoneType", "Input should", "valid dictionary", "dict[", "'str'", "validation error", "model_", "Traceback"),
    *("Errno", "codec", "<class", "Value error"),
)
"""What no user of YAML has to know."""


def compile_case(name: str, monkeypatch: pytest.MonkeyPatch) -> Compilation:
    folder = HERE / name
    monkeypatch.chdir(folder)
    arguments: dict[str, Any] = {"environment": {}}
    if (folder / "arguments.json").exists():
        arguments |= json.loads((folder / "arguments.json").read_text())
    return compile_file(Path("buildflow.yaml"), **arguments)


def expect(path: Path, actual: str) -> None:
    """That the file holds `actual`; where that is nothing, that there is no such file."""
    if UPDATE and actual:
        path.write_text(actual)
    elif UPDATE:
        path.unlink(missing_ok=True)
    assert actual == (path.read_text() if path.exists() else "")


def as_json(value: ResourceGraph | RuntimePlan) -> str:
    return json.dumps(value.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("name", CASES)
def test_case(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result = compile_case(name, monkeypatch)
    sources: dict[str, Sequence[str]] = {result.document.path: result.document.lines}
    said = "\n".join(render(d, sources) for d in result.diagnostics)
    assert not (name.startswith("good_") and said), said
    expect(HERE / name / "diagnostics.txt", said)
    expect(HERE / name / "graph.json", as_json(result.graph) if result.ok else "")
    expect(HERE / name / "runtime_plan.json", as_json(result.plan) if result.ok else "")


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_told_in_the_users_words(name: str) -> None:
    text = (HERE / name / "diagnostics.txt").read_text()
    said = [line for line in text.splitlines() if " | " not in line]
    assert not [line for line in said for word in PYTHON_WORDS if word in line]


def test_every_code_is_shown_by_a_case() -> None:
    shown = {
        code for name in MISTAKES for code in CODES if f"[{code}]" in (HERE / name / "diagnostics.txt").read_text()
    }
    assert shown == set(CODES)


def test_there_are_enough_cases() -> None:
    """At least 150 mistakes, and 40 projects without any."""
    assert len(MISTAKES) >= 150
    assert len([name for name in GOOD if name.startswith("good_")]) >= 40


@pytest.mark.parametrize("name", GOOD)
def test_a_plan_survives_json(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result = compile_case(name, monkeypatch)
    assert RuntimePlan.model_validate_json(result.plan.model_dump_json()) == result.plan
    assert ResourceGraph.model_validate_json(result.graph.model_dump_json()) == result.graph


DUMP = """
import json, os, sys
from pathlib import Path
from buildflow.compiler import compile_file
from buildflow.diagnostics import to_json
for name in sys.argv[1:]:
    os.chdir(name)
    arguments = {"environment": {}}
    if Path("arguments.json").exists():
        arguments |= json.loads(Path("arguments.json").read_text())
    result = compile_file(Path("buildflow.yaml"), **arguments)
    print(result.graph.model_dump_json(), result.plan.model_dump_json())
    print(json.dumps([to_json(d) for d in result.diagnostics]))
"""


def test_two_processes_compile_alike() -> None:
    """Nothing depends on the order of a set: different hash seeds, equal bytes."""
    cases = [str(HERE / name) for name in CASES]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", DUMP, *cases],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            stdout=subprocess.PIPE,
        )
        for seed in ("1", "2")
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1]
    assert outputs[0].count(b"\n") == 2 * len(CASES)
