"""compile_file: what goes in beside the file, and that nothing a file holds makes it raise."""

import os
import random
import time
from pathlib import Path

import pytest

from buildflow.compiler import Compilation, compile_file
from buildflow.compiler.overlays import overlay
from buildflow.diagnostics import CODES
from buildflow.spec.document import parse, plain

ROOT = Path(__file__).parents[3]


def compiled(folder: Path, text: str | bytes, **arguments: object) -> Compilation:
    path = folder / "buildflow.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return compile_file(path, **{"environment": {}, **arguments})  # type: ignore[arg-type]


def codes(result: Compilation) -> list[str]:
    return [d.code for d in result.diagnostics]


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    result = compile_file(tmp_path, environment={})
    assert codes(result) == ["BF105"]
    assert result.diagnostics[0].message.endswith("cannot be read: is a directory")


def test_a_file_larger_than_the_limit(tmp_path: Path) -> None:
    result = compiled(tmp_path, "project: shop\nx-data: " + "x" * 5_000_000)
    assert codes(result) == ["BF104"]


def test_the_environment_is_the_process_s_own_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_NAME", "store")
    (tmp_path / "buildflow.yaml").write_text("project: ${env.SHOP_NAME}")
    assert compile_file(tmp_path / "buildflow.yaml").plan.project == "store"


def test_a_given_variable_wins_over_the_files(tmp_path: Path) -> None:
    text = "project: ${var.name}\nvariables: {name: shop}"
    assert compiled(tmp_path, text).plan.project == "shop"
    assert compiled(tmp_path, text, variables={"name": "store"}).plan.project == "store"


def test_the_stack_that_is_compiled(tmp_path: Path) -> None:
    two = "project: shop\nstacks: {a: {provider: local}, local: {provider: local}}\n"
    assert compiled(tmp_path, "project: shop").stack == "local"
    assert compiled(tmp_path, two).stack == "local"
    assert compiled(tmp_path, two + "default_stack: a").stack == "a"
    assert compiled(tmp_path, two + "default_stack: a", stack="local").stack == "local"
    assert compiled(tmp_path, "project: shop\nstacks: {b: {provider: local}}").stack == "b"


def test_extra_stacks_are_added_where_the_file_has_none(tmp_path: Path) -> None:
    extra = {"test": {"provider": "local", "local": {"dir": "elsewhere"}}}
    result = compiled(tmp_path, "project: shop", stack="test", extra_stacks=extra)
    assert (result.ok, result.plan.dir) == (True, "elsewhere")


def test_a_module_with_odd_but_valid_source(tmp_path: Path) -> None:
    """A byte order mark, an encoding line, a warning: Python takes them, so does the compiler."""
    (tmp_path / "a.py").write_bytes(b"\xef\xbb\xbfdef f(): return '\\d'\n")
    (tmp_path / "b.py").write_bytes("# coding: latin-1\nname = 'größe'\ndef f(): ...\n".encode("latin-1"))
    assert codes(compiled(tmp_path, "project: shop\nroutes: {GET /a: a:f, GET /b: b:f}")) == []


@pytest.mark.parametrize("source", [b"\x00", b"def f(:", b"\xff\xfe", b"x = " + b"(" * 5000, b"x = 1\n\tdef f(): ..."])
def test_a_module_that_is_no_python(source: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(source)
    assert codes(compiled(tmp_path, "project: shop\nroutes: {GET /: a:f, GET /b: a:g}")) == ["BF308"]


def test_types_that_hold_themselves_end(tmp_path: Path) -> None:
    fields = "".join(f"    f{n}: 'list[Node]'\n" for n in range(12))
    (tmp_path / "a.py").write_text(
        f"from dataclasses import dataclass\nclass A(B): ...\nclass B(A): ...\nX = Y\nY = X\n"
        f"@dataclass\nclass Node:\n{fields}\ndef f(a: A, b: X, c: Node) -> Node: ...\n"
    )
    started = time.perf_counter()
    assert codes(compiled(tmp_path, "project: shop\nroutes: {GET /: a:f}")) == []
    assert time.perf_counter() - started < 2


def test_modules_that_import_each_other_end(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("from b import *\nfrom b import f\n")
    (tmp_path / "b.py").write_text("from a import *\nfrom a import f\n")
    result = compiled(tmp_path, "project: shop\nroutes: {GET /: a:f, GET /g: a:g}")
    assert set(codes(result)) <= {"BF303"}


def test_overlay_rules() -> None:
    def merged(base: str, over: str) -> object:
        return plain(overlay(parse(base, "f")[0].root, parse(over, "f")[0].root))

    assert merged("a: {b: 1, c: 2}", "a: {c: 3, d: 4}") == {"a": {"b": 1, "c": 3, "d": 4}}
    assert merged("a: [1, 2]", "a: [3]") == {"a": [3]}
    assert merged("a: {b: 1}\nc: 2", "a: null") == {"c": 2}
    assert merged("a: {b: {c: 1, d: 2}}", "a: {b: {c: ~}}") == {"a": {"b": {"d": 2}}}
    assert merged("a: text", "a: {b: 1, c: null}") == {"a": {"b": 1}}
    assert merged("a: {b: 1}", "a: text") == {"a": "text"}
    assert merged("a: 1", "b: {c: null, d: 2}") == {"a": 1, "b": {"d": 2}}


ODD = [
    "",
    "~",
    "5",
    "a",
    "[]",
    "{}",
    "? : :",
    "&a *a",
    "project: {}",
    "project:",
    "project: p\nstacks: {local: {provider: [local]}}",
    "project: p\nstacks: {local: }",
    "project: p\nstacks: {local: {local: 5, primitives: 5, routes: [1], variables: x}}",
    "project: p\nprimitives: {a: {type: [1]}}",
    "project: p\nprimitives: {a: {type: table, columns: 5}, b: {type: table, columns: [1]}}",
    "project: p\nprimitives: {a: {type: table, columns: 'a\\0b:C'}, b: {type: table, columns: ':'}}",
    "project: p\nprimitives: {a: {type: table, columns: '..:C'}, b: {type: table, columns: 'a:'}}",
    "project: p\nprimitives: {a: {type: bucket, name: ''}, '': {type: queue}}",
    "project: p\nroutes: {'': a:b, ' ': a:b, 'GET ': a:b, GET /: {handler: }, 5: 5, ~: ~}",
    "project: p\nroutes: {GET /: {timeout: 1" + "0" * 399 + "}}",
    "project: p\nroutes: {GET /: {timeout: 1" + "0" * 4999 + ", status: 0x" + "f" * 5000 + "}}",
    "project: p\noptions: {max_request_size: " + "9" * 390 + "GB, max_concurrent_requests: 1e400}",
    "project: p\nvariables: [1]\ndefault_stack: [1]",
    "project: p\nvariables: {a: ${var.b}, b: ${var.a}}\noptions: {log_level: ${var.a}}",
    "project: p\ndependencies: {a: {factory: a:b, with: 5}, b: 5, c: {factory: }}",
    "project: p\nconsumers: {a: {source: , handler: , batch: 5, retry: [], inject: x}}",
    "project: p\nmounts: {/a: , b: [], /c: '\\0'}",
    'project: p\nmounts: {/c: "\\0"}',
    "project: p\npulumi_config: 5",
    "project: p\npulumi_config: {stacks: {local: {}}}\nstacks: 5",
    "project: p\npulumi_config: {stacks: [5, {name: }, {name: [1]}, {name: a, x: 1}]}",
    "project: p\nformat: .inf",
    "project: p\nformat: true",
    "project: p\nformat: [2]",
    "project: p\nx-: 1\nx-a: {<<: }",
    "project: p\nstr: 1\n'a[b]': 2\nint: {}",
]


@pytest.mark.parametrize("text", ODD)
def test_odd_files_are_mistakes_and_never_exceptions(text: str, tmp_path: Path) -> None:
    result = compiled(tmp_path, text)
    assert all(d.code in CODES and d.message and d.span.line > 0 and d.span.column > 0 for d in result.diagnostics)


SNIPPETS = (
    *(
        "{",
        "}",
        "[",
        "]",
        ":",
        ": ",
        "- ",
        "\n",
        "\t",
        "  ",
        "'",
        '"',
        "|",
        ">",
        "#",
        "&a ",
        "*a",
        "!!str ",
        "!x ",
        "<<: ",
    ),
    *("${", "${env.X}", "${var.a}", "${secret.X}", "$${", "null", "~", "true", "5", "-1", "1e999", ".inf", "0x1F", "ä"),
    *("type: ", "columns: ", "table", "queue", "GET /", "{id}", "app:f", "stacks:", "provider: aws", "\x00", "\u2028"),
)


def mutated(text: str, chance: random.Random) -> str:
    """A few edits such as hands make: cut, doubled, moved and foreign pieces."""
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(text) + 1)
        end = min(len(text), start + chance.choice((0, 1, 1, 3, 10, 60)))
        lines = text.splitlines(keepends=True)
        match chance.randrange(5):
            case 0:
                text = text[:start] + text[end:]
            case 1:
                text = text[:start] + chance.choice(SNIPPETS) + text[end:]
            case 2:
                text = text[:start] + text[start:end] * 2 + text[end:]
            case 3:
                chance.shuffle(lines)
                text = "".join(lines[: chance.randrange(len(lines) + 1)]) if chance.random() < 0.2 else "".join(lines)
            case _:
                line = chance.randrange(len(lines)) if lines else 0
                lines[line : line + 1] = [" " * chance.randrange(5) + lines[line].lstrip(" ")] if lines else []
                text = "".join(lines)
    return text


@pytest.mark.parametrize("part", range(4))
def test_no_text_makes_the_compiler_raise(part: int, tmp_path: Path) -> None:
    """The root file with a fixed seed's edits; BUILDFLOW_FUZZ=500 tries more."""
    text = (ROOT / "buildflow.yaml").read_text()
    (tmp_path / "handlers_example").symlink_to(ROOT / "handlers_example")
    for number in range(int(os.environ.get("BUILDFLOW_FUZZ", "60"))):
        edited = mutated(text, random.Random(f"{part}/{number}"))
        result = compiled(tmp_path, edited.encode("utf-8", "surrogatepass"), environment={"GCP_PROJECT_ID": "p"})
        assert all(d.code in CODES and d.span.line > 0 and d.span.column > 0 for d in result.diagnostics)
        assert result.plan.model_validate_json(result.plan.model_dump_json()) == result.plan
