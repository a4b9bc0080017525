"""YAML that every parser reads alike: ours (YAML 1.2) and PyYAML's (YAML 1.1)."""

import math
from itertools import product
from typing import Any

import pytest
import yaml

from buildflow.cli.config_text import commented, flat, plain, scalar, yaml_lines
from buildflow.cli.config_values import Leaf, Tree
from buildflow.spec import document

SPECIAL = (
    *(
        "on",
        "Off",
        "yes",
        "NO",
        "y",
        "n",
        "true",
        "null",
        "~",
        "",
        " ",
        "12:30",
        "1:2:3",
        "0755",
        "0o17",
        "0x1F",
        "1e3",
    ),
    *(
        "1E+3",
        ".5",
        "5.",
        "1_000",
        "2024-01-01",
        "-0",
        "+1",
        ".inf",
        "-.INF",
        ".nan",
        "=",
        "<<",
        "a: b",
        "a #b",
        "#",
        "a:",
    ),
    *(
        "- a",
        "-",
        "---",
        "...",
        "? a",
        "{a}",
        "[a]",
        "!t",
        "&a",
        "*a",
        "|",
        ">",
        "%a",
        "@a",
        "`a",
        "'",
        '"',
        "\\",
        "a\nb",
    ),
    *(
        "\t",
        " a",
        "a ",
        "a\x85b",
        "a\u2028b",
        "\ufeff",
        "\U0001f600",
        "é",
        "a\xa0b",
        "\x07",
        "\x7f",
        "\ufffe",
        "x" * 500,
    ),
    *("GET /images/{path:path}", "${secret.X}", "a,b", "500ms", "10MB", "app:index", "redis://me:x@example.org/0"),
)
SHORT = (
    *("".join(parts) for n in (1, 2) for parts in product("a1:-#?.{[&*!|>'\"%@~ \n\t,=<+_0xe", repeat=n)),
    *("".join(parts) for parts in product("a1:-# '\n0_e.", repeat=3)),
)


def text_of(tree: dict[str, Tree]) -> str:
    return "\n".join(line for line, _ in yaml_lines(tree)) + "\n"


def read_by_both(text: str) -> Any:
    """What both parsers make of it, which has to be one thing."""
    parsed, problems = document.parse(text, "x.yaml")
    assert problems == []
    ours = document.plain(parsed.root)
    assert ours == yaml.safe_load(text)
    return ours


@pytest.mark.parametrize("texts", [SPECIAL, SHORT], ids=["special", "short"])
def test_text_stays_the_text_that_it_was_as_a_value_a_key_and_an_item(texts: tuple[str, ...]) -> None:
    tree: dict[str, Tree] = {
        "values": {f"k{i}": Leaf(text, "") for i, text in enumerate(texts)},
        "keys": {text: Leaf(1, "") for text in texts if text != "<<"},
        "items": [Leaf(text, "") for text in texts],
    }
    assert read_by_both(text_of(tree)) == plain(tree)


@pytest.mark.parametrize("value", [True, False, None, 0, -7, 10**20, 1.5, 1e300, 1e-7, -0.0, 5.0])
def test_other_values_stay_what_they_were(value: Any) -> None:
    found = read_by_both(f"a: {scalar(value)}\n")["a"]
    assert (found, type(found)) == (value, type(value))


def test_numbers_that_are_none() -> None:
    parsed, _ = document.parse(f"a: {scalar(math.inf)}\nb: {scalar(math.nan)}\n", "x.yaml")
    assert str(document.plain(parsed.root)) == "{'a': inf, 'b': nan}"


def test_what_needs_no_quotes_has_none() -> None:
    assert [scalar(text) for text in ("app:index", "500ms", "GET /a/{b}", "${env.X:-a}", "grün", "on", "12:30")] == [
        "app:index", "500ms", "GET /a/{b}", "${env.X:-a}", "grün", '"on"', '"12:30"',
    ]  # fmt: skip


def test_nested_values_in_block_style() -> None:
    tree: dict[str, Tree] = {
        "a": {"b": {"c": Leaf(1, "")}, "empty": {}, "none": []},
        "list": [{"to": Leaf("x", ""), "when": {"z": Leaf(2, "")}}, [Leaf(3, ""), Leaf(4, "")], {}],
    }
    assert text_of(tree) == (
        "a:\n  b:\n    c: 1\n  empty: {}\n  none: []\n"
        "list:\n  - to: x\n    when:\n      z: 2\n  -\n    - 3\n    - 4\n  - {}\n"
    )
    assert read_by_both(text_of(tree)) == plain(tree)


def test_comments_stand_below_each_other_and_a_long_line_moves_nobody() -> None:
    long = "x" * 100
    lines = [("a: 1", "default"), ("bcd: 2", "x.yaml:1:2"), ("e:", ""), (f"f: {long}", "--set\nvar.f")]
    assert ["".join(line) for line in commented(lines)] == [
        "a: 1    # default", "bcd: 2  # x.yaml:1:2", "e:", f"f: {long}  # --set var.f",
    ]  # fmt: skip


def test_paths_name_one_value_each() -> None:
    tree: dict[str, Tree] = {
        "routes": {"GET /": {"handler": Leaf("app:index", "here")}, 'a."b\\': Leaf(1, "")},
        "events": [Leaf("created", ""), {"x": Leaf(2, "")}],
    }
    assert {path: leaf.value for path, leaf in flat(tree)} == {
        'routes."GET /".handler': "app:index", 'routes."a.\\"b\\\\"': 1, "events[0]": "created", "events[1].x": 2,
    }  # fmt: skip
