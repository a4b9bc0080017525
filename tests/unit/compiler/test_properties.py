"""What holds for every file, whatever it says. BUILDFLOW_EXAMPLES=20000 looks longer, and at other examples."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from buildflow.compiler import Compilation
from buildflow.diagnostics import CODES, Severity, errors_in, to_json
from buildflow.ir.graph import ResourceGraph
from buildflow.ir.runtime import RuntimePlan
from buildflow.spec.document import parse, plain
from tests.unit.compiler.conftest import Compiled
from tests.unit.compiler.looking import many, some
from tests.unit.compiler.strategies import any_text, anything, documents

ROOT = Path(__file__).parents[3]


def written(document: Any) -> str:
    return str(yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True))


def check(text: str | bytes, compiled: Compiled) -> Compilation:
    """Diagnostics or a plan: well formed, the same every time, and the same after JSON."""
    result = compiled(text)
    errors = [d for d in result.diagnostics if d.severity is Severity.ERROR]
    assert result.ok == (not errors)
    for d in result.diagnostics:
        assert d.code in CODES
        assert d.message
        assert (1, 1) <= (d.span.line, d.span.column) <= (d.span.end_line, d.span.end_column)
        assert json.loads(json.dumps(to_json(d)))["code"] == d.code
    assert (again := compiled(text)).diagnostics == result.diagnostics
    assert (again.plan, again.graph) == (result.plan, result.graph)
    if result.ok:
        assert RuntimePlan.model_validate_json(result.plan.model_dump_json()) == result.plan
        assert ResourceGraph.model_validate_json(result.graph.model_dump_json()) == result.graph
    return result


def test_any_text_gives_diagnostics_or_a_plan(compiled: Compiled) -> None:
    @many
    @given(any_text)
    def holds(text: str) -> None:
        check(text, compiled)

    holds()


def test_any_bytes_give_diagnostics_or_a_plan(compiled: Compiled) -> None:
    @many
    @given(st.binary() | any_text.map(lambda text: text.encode("utf-16")))
    def holds(content: bytes) -> None:
        check(content, compiled)

    holds()


def test_any_module_gives_diagnostics_or_a_plan(compiled: Compiled) -> None:
    text = "project: shop\nprimitives: {t: {type: table, columns: odd:Row}}\nroutes: {GET /: odd:f}\n"

    @many
    @given(any_text | st.lists(st.sampled_from(PYTHON_PIECES), max_size=20).map("".join))
    def holds(source: str) -> None:
        compiled(text, odd="")
        Path("odd.py").write_bytes(source.encode("utf-8", "surrogatepass"))
        check(text, compiled)

    holds()


PYTHON_PIECES = (
    *(
        "def f",
        "(",
        ")",
        ": ...",
        "\n",
        "    ",
        "class Row",
        "(Row)",
        ":",
        " -> ",
        "Row",
        "int",
        "list[",
        "]",
        " | ",
        "'",
        "=",
    ),
    *(
        "from dataclasses import dataclass\n",
        "@dataclass\n",
        "import odd\n",
        "from odd import *\n",
        "from . import x\n",
        "id: ",
    ),
    *(
        "Row = ",
        "None",
        "*",
        "**",
        "/",
        ", ",
        "async ",
        "yield",
        "lambda: ",
        "type Row = int\n",
        "...",
        "\\",
        "#",
        "\t",
        "\r",
        "é",
    ),
)


@pytest.mark.parametrize("wrong", [0, 6, 40])
def test_any_document_gives_diagnostics_or_a_plan(wrong: int, compiled: Compiled) -> None:
    fine = 0

    @some
    @given(documents(wrong))
    def holds(document: Any) -> None:
        nonlocal fine
        fine += check(written(document), compiled).ok

    holds()
    assert wrong or fine > some.max_examples / 10, "nearly nothing compiles: the strategies have to follow the language"


SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "schemas/buildflow.schema.json").read_text()))


@pytest.mark.parametrize("wrong", [0, 40])
def test_the_schema_accepts_what_compiles(wrong: int, compiled: Compiled) -> None:
    @some
    @given(documents(wrong))
    def holds(document: Any) -> None:
        result = compiled(written(document))
        if result.ok:
            refused = [f"{e.json_path}: {e.message}" for e in SCHEMA.iter_errors(plain(result.document.root))]
            assert not refused, written(document)

    holds()


@many
@given(st.dictionaries(st.text(max_size=5), anything, max_size=4))
def test_json_is_read_as_what_it_is(value: dict[str, Any]) -> None:
    text = json.dumps(value, ensure_ascii=False)
    document, found = parse(text, "f.yaml")
    if text.isprintable():
        assert not errors_in(found)
        assert plain(document.root) == json.loads(text)
