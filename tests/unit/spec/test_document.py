"""Text to Document: values by YAML 1.2, and the exact place of every key and value."""

import math

import pytest

from buildflow.diagnostics import Span, errors_in
from buildflow.spec import document
from buildflow.spec.document import Mapping, Scalar, Sequence, at, key_span, parse, plain, scalar_value, walk

TEXT = """\
# a comment
project: shop
primitives:
  images:
    type: bucket        # behind a value
    name: "two words"
  files: {type: bucket, größe: 5}
tags:
- one
- [two, 'three']
empty:
note: |
  several
  lines
"""


def root(text: str) -> Mapping:
    parsed, found = parse(text, "f.yaml")
    assert not errors_in(found)
    return parsed.root


def place(span: Span) -> tuple[int, int, int, int]:
    return span.line, span.column, span.end_line, span.end_column


KEYS = {
    ("project",): (2, 1, 2, 8),
    ("primitives",): (3, 1, 3, 11),
    ("primitives", "images"): (4, 3, 4, 9),
    ("primitives", "images", "type"): (5, 5, 5, 9),
    ("primitives", "images", "name"): (6, 5, 6, 9),
    ("primitives", "files"): (7, 3, 7, 8),
    ("primitives", "files", "type"): (7, 11, 7, 15),
    ("primitives", "files", "größe"): (7, 25, 7, 30),
    ("tags",): (8, 1, 8, 5),
    ("empty",): (11, 1, 11, 6),
    ("note",): (12, 1, 12, 5),
}
VALUES = {
    ("project",): (2, 10, 2, 14),
    ("primitives",): (4, 3, 4, 10),
    ("primitives", "images"): (5, 5, 5, 41),
    ("primitives", "images", "type"): (5, 11, 5, 17),
    ("primitives", "images", "name"): (6, 11, 6, 22),
    ("primitives", "files"): (7, 10, 7, 34),
    ("primitives", "files", "type"): (7, 17, 7, 23),
    ("primitives", "files", "größe"): (7, 32, 7, 33),
    ("tags",): (9, 1, 9, 6),
    ("tags", 0): (9, 3, 9, 6),
    ("tags", 1): (10, 3, 10, 17),
    ("tags", 1, 0): (10, 4, 10, 7),
    ("tags", 1, 1): (10, 9, 10, 16),
    ("empty",): (11, 7, 11, 7),
    ("note",): (12, 7, 15, 1),
}


def test_every_key_has_its_place() -> None:
    tree = root(TEXT)
    keys = {path: place(key_span(tree, path)) for path, _ in walk(tree) if path and isinstance(path[-1], str)}
    assert keys == KEYS


def test_every_value_has_its_place() -> None:
    tree = root(TEXT)
    assert {path: place(node.span) for path, node in walk(tree) if path} == VALUES
    assert {node.span.file for _, node in walk(tree)} == {"f.yaml"}


def test_the_place_of_what_is_missing_is_the_nearest_above() -> None:
    tree = root(TEXT)
    assert at(tree, ("primitives", "images", "nothing", "deeper")) is at(tree, ("primitives", "images"))
    assert at(tree, ("tags", 7)) is at(tree, ("tags",))
    assert key_span(tree, ("primitives", "images", "nothing")) == at(tree, ("primitives", "images")).span


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((t, None) for t in ("", "~", "null", "Null", "NULL")),
        *((t, True) for t in ("true", "True", "TRUE")),
        *((t, False) for t in ("false", "False", "FALSE")),
        *(("0", 0), ("-7", -7), ("+7", 7), ("-0", 0), ("0o17", 15), ("0x1F", 31)),
        *(("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1e3", 1000.0), ("-1.5E-3", -0.0015)),
        *((".inf", math.inf), ("-.Inf", -math.inf), ("+.INF", math.inf)),
        # text, though YAML 1.1 reads something else
        *((t, t) for t in ("on", "off", "yes", "no", "y", "n", "On", "NO", "tRUE", "nULL")),
        *((t, t) for t in ("12:30", "1:2:3", "0755", "-012", "0b11", "1_000", "0o8", "0xG", "2024-01-01")),
        *((t, t) for t in ("1.2.3", "1e", ".", "-", "+", "e3", "=", "<<", "inf", "nan", "0x", "--1", "١")),
        *((t, t) for t in ("9" * 401, "0x" + "f" * 5000, "1" * 400 + ".5")),
    ],
)
def test_plain_scalars_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    result = scalar_value(text)
    assert result == value
    assert type(result) is type(value)


def test_not_a_number_is_a_float() -> None:
    assert all(math.isnan(scalar_value(text)) for text in (".nan", ".NaN", ".NAN"))  # type: ignore[arg-type]


def test_quoted_and_tagged_scalars_are_text() -> None:
    assert plain(root("a: '5'\nb: \"true\"\nc: !!str 5\nd: |-\n  7\ne: {x: !!str 1e3, y: 1e3}")) == {
        **{"a": "5", "b": "true", "c": "5", "d": "7"},
        "e": {"x": "1e3", "y": 1000.0},
    }


def test_keys_are_text() -> None:
    assert list(root("1: a\ntrue: b\n~: c\n'x y': d").pairs) == ["1", "true", "~", "x y"]


def test_merge_keys() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: *a, x: 3}\nd: {<<: [*a, *b], w: 4}\ne: {'<<': text}"
    tree = plain(root(text))
    assert tree["c"] == {"x": 3, "y": 1}
    assert tree["d"] == {"x": 1, "y": 1, "z": 2, "w": 4}
    assert tree["e"] == {"<<": "text"}


def test_merged_values_keep_their_own_place() -> None:
    tree = root("a: &a\n  x: 1\nb:\n  <<: *a\n  y: 2")
    assert place(at(tree, ("b", "x")).span) == (2, 6, 2, 7)


def test_an_alias_stands_where_its_anchor_does() -> None:
    tree = root("a: &a text\nb: *a")
    assert at(tree, ("b",)) == Scalar("text", Span("f.yaml", 1, 4, 1, 11), plain=True)


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n"])
def test_nothing_is_an_empty_mapping(text: str) -> None:
    parsed, found = parse(text, "f.yaml")
    assert parsed.root.pairs == {}
    assert [d.code for d in found] in ([], ["BF103"])


def test_a_byte_order_mark_and_windows_lines_shift_nothing() -> None:
    tree = root("\ufeffa: 1\r\nb:\r\n  c: 2\r\n")
    assert plain(tree) == {"a": 1, "b": {"c": 2}}
    assert place(key_span(tree, ("a",))) == (1, 1, 1, 2)
    assert place(key_span(tree, ("b", "c"))) == (3, 3, 3, 4)


def test_a_file_larger_than_the_limit_is_refused() -> None:
    parsed, found = parse("a: " + "x" * document.MAX_BYTES, "f.yaml")
    assert parsed.root.pairs == {}
    assert [(d.code, d.message) for d in found] == [("BF104", "this file is larger than 5 MB")]


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 200_000, "{a: " * 200_000, "- " * 100_000, "? " * 100_000, "[" * 150 + "]" * 150),
        "a: &a [*a]",
        "a: &a {<<: *a}",
        "a: &a [x, {b: *a}]",
        "a: &a []\n"
        + "".join(f"x{i}: &x{i} [*{p}, *{p}]\n" for i, p in enumerate(["a", *(f"x{n}" for n in range(30))])),
        "a: &a []\n"
        + "".join(f"x{i}: &x{i} [*{p}, *{p}]\n" for i, p in enumerate(["a", *(f"x{n}" for n in range(30))]))
        + "z: {<<: *x30}\n",
    ],
    ids=[
        "flow lists",
        "flow mappings",
        "block lists",
        "keys",
        "a closed one",
        "itself",
        "merging",
        "deep",
        "bomb",
        "mb",
    ],
)
def test_bombs_are_refused_and_end_nothing(text: str) -> None:
    """libyaml's composer recurses in C: without a guard, nesting ends the process with SIGSEGV."""
    _, found = parse(text, "f.yaml")
    assert {d.code for d in found} & {"BF104", "BF101"}


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: 'x", 1, 4),
        ('a: 1\nb: "x\nc: 2', 2, 4),
        ("a: [1,\n  2\nb: 3", 1, 4),
        ("a: {b: 1", 1, 4),
        ("a: 1\n\tb: 2", 2, 1),
        ("a:\n  - 1\n b: 2", 3, 2),
        ("a: b: c", 1, 5),
        ("a\nb: 1", 2, 2),
        ("a: 1\nb: @x", 2, 4),
        ("a: *x", 1, 4),
        ("a: 1\n---\nb: 2", 2, 1),
        ("a: 1\nb: \x00", 2, 4),
        ("a: \ud800", 1, 4),
        ("a: !x y", 1, 4),
        ("a: [!x y]", 1, 5),
        ("%FOO\na: 1", 1, 1),
        ('a: "\\q"', 1, 5),
        ("a: *", 1, 4),
        ("? [a]\n: b", 1, 3),
        ("a: 1\nb: 2\na: 3", 3, 1),
        ("a: &x 1\n<<: 5", 2, 5),
        ("- a", 1, 1),
        ("just text", 1, 1),
    ],
)
def test_a_mistake_has_its_place(text: str, line: int, column: int) -> None:
    _, found = parse(text, "f.yaml")
    assert [(d.span.line, d.span.column) for d in found] == [(line, column)]
    assert all(d.message and not d.message.startswith("this is no valid YAML") for d in found)


def test_plain_values_lose_their_places() -> None:
    assert plain(Sequence((Scalar(1, Span("f")), Mapping({}, Span("f"))), Span("f"))) == [1, {}]
