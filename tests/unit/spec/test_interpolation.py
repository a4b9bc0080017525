"""`${...}` in strings."""

from collections.abc import Mapping
from typing import Any

import pytest

from buildflow.spec.document import Scalar, at, parse, plain
from buildflow.spec.interpolation import Scope, escape, interpolate, references, resolve_references, unescaped

SCOPE = Scope(
    project="shop",
    stack="local",
    environment={"HOST": "example.org", "EMPTY": "", "TRICKY": "${secret.X}"},
    variables={"region": "eu", "count": 5, "on": True, "nothing": None, "list": [1], "later": "${secret.TOKEN}"},
    settings={"gcp": {"project": "my-project"}, "provider": "gcp"},
)


def put_in(text: str, scope: Scope = SCOPE) -> tuple[Any, list[str]]:
    document, found = parse("value: ''", "f")
    assert not found
    node, found = interpolate(document.root.with_value("value", Scalar(text, document.root.span)), scope)
    return plain(at(node, ("value",))), [d.code for d in found]


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("plain", "plain"),
        ("$5 and {braces}", "$5 and {braces}"),
        ("${env.HOST}", "example.org"),
        ("http://${env.HOST}:80/${project}", "http://example.org:80/shop"),
        ("${env.EMPTY}", ""),
        ("${env.EMPTY:-default}", "default"),
        ("${env.MISSING:-default}", "default"),
        ("${env.MISSING:-}", ""),
        ("${env.MISSING:-a:-b}", "a:-b"),
        ("${ env.HOST }", "example.org"),
        ("${var.region}/${var.count}/${var.on}/${var.nothing}", "eu/5/true/"),
        ("${project}-${stack}", "shop-local"),
        ("${stack.gcp.project}", "my-project"),
        ("${stack.provider}", "gcp"),
    ],
)
def test_what_is_known_is_put_in(text: str, result: str) -> None:
    assert put_in(text) == (result, [])


@pytest.mark.parametrize("text", ["${secret.TOKEN}", "a ${secret.TOKEN} b", "${primitives.images.url}", "$${x}"])
def test_secrets_outputs_and_literals_stay(text: str) -> None:
    assert put_in(text) == (text, [])


def test_a_variable_that_holds_a_secret_stays_a_reference() -> None:
    assert put_in("Bearer ${var.later}") == ("Bearer ${secret.TOKEN}", [])


def test_what_the_environment_holds_is_text_and_nothing_else() -> None:
    """Otherwise whoever sets a variable could read any secret."""
    value, found = put_in("${env.TRICKY}")
    assert (value, found) == ("$${secret.X}", [])
    assert resolve_references(value, lambda root, rest: pytest.fail(f"looked up {root}.{rest}")) == "${secret.X}"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("${env.HOST", "BF120"),
        ("${", "BF120"),
        ("${env.}", "BF120"),
        ("${env}", "BF120"),
        ("${env.A B}", "BF120"),
        ("${secret.}", "BF120"),
        ("${secret}", "BF120"),
        ("${primitives}", "BF120"),
        ("${var.list}", "BF120"),
        ("${stack.gcp}", "BF120"),
        ("${env.MISSING}", "BF121"),
        ("${var.nope}", "BF122"),
        ("${var}", "BF122"),
        ("${}", "BF123"),
        ("${nope.x}", "BF123"),
        ("${project.x}", "BF123"),
        ("${project:-x}", "BF123"),
        ("${stack.aws.region}", "BF123"),
        ("${stack.provider.x}", "BF123"),
    ],
)
def test_a_mistake_leaves_the_text(text: str, code: str) -> None:
    assert put_in(text) == (text, [code])


def test_braces_inside_braces_are_told_apart_from_an_unclosed_one() -> None:
    value, found = put_in("${env.A:-${env.HOST}}")
    assert found == ["BF120"]
    assert value == "${env.A:-${env.HOST}}"


def test_a_lenient_scope_forgives_values_but_not_names() -> None:
    lenient = Scope("shop", "aws", {}, {}, {}, lenient=True)
    assert put_in("${env.X}/${stack.aws.region}", lenient) == ("${env.X}/${stack.aws.region}", [])
    assert put_in("${nope}", lenient)[1] == ["BF123"]
    assert put_in("${var.x}", lenient)[1] == ["BF122"]


def test_every_string_below_is_reached_and_keys_are_refused() -> None:
    document, _ = parse("'${project}': {a: ['${project}', {b: '${stack}'}], c: 5}", "f")
    node, found = interpolate(document.root, SCOPE)
    assert [(d.code, d.span.column) for d in found] == [("BF120", 1)]
    assert plain(node) == {"${project}": {"a": ["shop", {"b": "local"}], "c": 5}}


def test_unknown_tells_what_is_not_resolved_yet() -> None:
    document, _ = parse("a: '${secret.X}'\nb: '${project}'\nc: $${x}\nd: text", "f")
    node, _ = interpolate(document.root, SCOPE)
    marks = {key: (at(node, (key,)).interpolated, at(node, (key,)).unknown) for key in "abcd"}  # type: ignore[union-attr]
    assert marks == {"a": (True, True), "b": (True, False), "c": (True, False), "d": (False, False)}
    assert plain(unescaped(node)) == {"a": "${secret.X}", "b": "shop", "c": "${x}", "d": "text"}


def test_references_of_a_text() -> None:
    assert references("${secret.A}/$${secret.B}/${primitives.images.url}") == [
        ("secret", "A"),
        ("primitives", "images.url"),
    ]


def test_resolving_puts_secrets_and_outputs_in() -> None:
    known: Mapping[tuple[str, str], str] = {("secret", "T"): "hush", ("primitives", "a.url"): "file://a"}
    value = {"a": ["Bearer ${secret.T}", 5], "b": {"c": "${primitives.a.url}"}, "d": escape("${secret.T}")}
    assert resolve_references(value, lambda root, rest: known[root, rest]) == {
        "a": ["Bearer hush", 5],
        "b": {"c": "file://a"},
        "d": "${secret.T}",
    }
