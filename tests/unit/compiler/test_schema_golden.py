"""The schema against the compiler, both ways, over every golden case and every YAML that the repository shows.

What compiles fits the schema. A mistake in a file's form is one to the schema too, at the same place; and the schema
finds none where the compiler finds none. What it cannot know is listed below, and has to happen.
"""

import contextlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from keyword import iskeyword
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import jsonschema
import pytest
from jsonschema.exceptions import ValidationError
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from buildflow.compiler import Compilation, compile_file
from buildflow.compiler.schema import json_schema
from buildflow.diagnostics import Diagnostic, Severity, Span
from buildflow.primitives.registry import all_primitives
from buildflow.spec.document import Mapping, Node, Scalar, Sequence, at, parse, plain
from buildflow.spec.project import BUILT_INS, OVERLAYS, SECTIONS, Project

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests/golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/buildflow.yaml"))
SCHEMA = jsonschema.Draft202012Validator(json_schema())

pytestmark = pytest.mark.xdist_group("schema and golden cases")  # one process compiles each case once

Place = tuple[Any, ...]

NO_DOCUMENT = {"BF106", "BF101", "BF104", "BF105", "BF108"}
"""After these there is no value to hold against a schema."""

OF_FORM = {
    "BF103": "not a mapping",
    "BF106": "format too new",
    "BF107": "reserved key",
    "BF124": "secret in clear",
    "BF201": "unknown key",
    "BF202": "missing key",
    "BF203": "wrong type",
    "BF204": "invalid value",
    "BF205": "unknown type",
    "BF206": "malformed route",
    "BF207": "malformed name",
    "BF301": "malformed handler",
}
"""Mistakes that a file's form alone shows. The others need what it names: handlers, primitives, an environment."""


@dataclass(frozen=True)
class Mistake:
    """A diagnostic of the compiler's, and where in the document it is."""

    diagnostic: Diagnostic
    places: frozenset[Place]


@dataclass(frozen=True)
class Comparison:
    """One file as both see it."""

    root: Mapping
    mistakes: tuple[Mistake, ...]
    complaints: frozenset[Place]


def compare(result: Compilation) -> Comparison:
    where: defaultdict[Span, set[Place]] = defaultdict(set)
    for span, place in places_of(result.document.root):
        where[span].add(place)
    errors = [d for d in result.diagnostics if d.severity is Severity.ERROR]
    mistakes = tuple(Mistake(d, frozenset(where[d.span])) for d in errors)
    complaints = {p for error in SCHEMA.iter_errors(plain(result.document.root)) for p in complained_at(error)}
    return Comparison(result.document.root, mistakes, frozenset(complaints))


def places_of(node: Node, place: Place = ()) -> Iterator[tuple[Span, Place]]:
    """Every value's and every key's span with its place."""
    yield node.span, place
    if isinstance(node, Mapping):
        for key, pair in node.pairs.items():
            yield pair.key.span, (*place, key)
            yield from places_of(pair.value, (*place, key))
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from places_of(item, (*place, index))


def complained_at(error: ValidationError) -> Iterator[Place]:
    """Where the schema sees a mistake: of keys, the keys themselves."""
    place = tuple(error.absolute_path)
    if "propertyNames" in error.schema_path:
        yield (*place, error.instance)
    elif error.validator == "additionalProperties":
        schema, keys = cast(dict[str, Any], error.schema), cast(dict[str, Any], error.instance)
        known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        unknown = [k for k in keys if k not in known and not any(re.search(p, k) for p in patterns)]
        yield from ((*place, key) for key in unknown)
    elif error.schema is False:
        yield (*place, "app")  # the only key that another one forbids; jsonschema does not say which it was
    else:
        yield place


def found(mistake: Mistake, complaints: frozenset[Place]) -> bool:
    """Whether the schema complains there, or deeper in it; of a misspelt key, that the right one is missing."""
    misspelt = {place[:-1] for place in mistake.places} if mistake.diagnostic.code == "BF201" else set()
    return bool(misspelt & complaints) or any(c[: len(p)] == p for c in complaints for p in mistake.places)


Rule = Callable[[Mistake, Mapping], bool]


def _is_read_later(mistake: Mistake, root: Mapping) -> bool:
    return any("${" in str(node.value) for node in _nodes(mistake, root) if isinstance(node, Scalar))


def _is_completed_elsewhere(mistake: Mistake, root: Mapping) -> bool:
    stacks = root.get("stacks")
    overlaid = {
        section
        for pair in (stacks.pairs.values() if isinstance(stacks, Mapping) else ())
        for section in OVERLAYS
        if isinstance(pair.value, Mapping) and section in pair.value.pairs
    }
    sections = {place[2] if place[0] == "stacks" else place[0] for place in mistake.places if len(place) > 1}
    return mistake.diagnostic.code == "BF202" and not overlaid.isdisjoint(sections)


def _says_something_impossible(mistake: Mistake, root: Mapping) -> bool:
    is_text = any(isinstance(node, Scalar) and isinstance(node.value, str) for node in _nodes(mistake, root))
    return is_text and mistake.diagnostic.code == "BF204" and "cannot be" not in mistake.diagnostic.message


def takes_more_than_one_field(mistake: Mistake, root: Mapping) -> bool:
    """Alone, the field would be right, or need not be there."""
    if mistake.diagnostic.code == "BF202":
        key = mistake.diagnostic.message.partition("`")[2].partition("`")[0]
        missing = [info for p in mistake.places for place, info in fields_to(root, (*p, key)) if place == (*p, key)]
        return bool(missing) and not any(info.is_required() for info in missing)
    fields = [field for place in mistake.places for field in fields_to(root, place)[-1:]]
    return mistake.diagnostic.code == "BF204" and any(fits(plain(at(root, place)), info) for place, info in fields)


def fields_to(root: Mapping, place: Place) -> list[tuple[Place, FieldInfo]]:
    """The fields of the models on the way to a place, and where they are."""
    start: Place = place[:2] if place[:1] == ("stacks",) and len(place) > 2 and place[2] in OVERLAYS else ()
    model, begin = owner(root, place[len(start) :], start)
    found = []
    for end in range(begin, len(place)):
        fields = model.model_fields if model else {}
        info = next((i for name, i in fields.items() if place[end] in (name, i.alias)), None)
        if info:
            found.append((place[: end + 1], info))
            model = next(models_in(info.annotation), None)
    return found


def owner(root: Mapping, place: Place, start: Place) -> tuple[type[BaseModel] | None, int]:
    """The model that a place is in, and where its fields begin."""
    if place[:1] not in {(section,) for section in (*SECTIONS, "primitives")}:
        return Project, len(start)
    kind = str(plain(at(root, (*place[:2], "type"))))
    if place[0] == "primitives":
        return (all_primitives()[kind].spec if kind in all_primitives() else None), len(start) + 2
    return (BUILT_INS.get(kind, SECTIONS[place[0]]) if place[0] == "dependencies" else SECTIONS[place[0]]), len(
        start
    ) + 2


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def fits(value: Any, info: FieldInfo) -> bool:
    alone: Any = Annotated[info.annotation, "", *info.metadata]
    try:
        TypeAdapter(alone).validate_python(value, strict=True)
    except ValueError:
        return False
    return True


def _nodes(mistake: Mistake, root: Mapping) -> list[Node]:
    return [at(root, place) for place in mistake.places]


RULES: dict[str, Rule] = {
    "keys that are no text, and what `<<` merges, are nowhere in the document's value": lambda m, _: not m.places,
    "what a reference gives is known once it is put in": _is_read_later,
    "an overlay and its base complete each other": _is_completed_elsewhere,
    "a word of Python looks like any other name": lambda m, _: any(iskeyword(str(p[-1])) for p in m.places if p),
    "it takes more than one field to see it": takes_more_than_one_field,
    "a text of the right form may say something impossible: the 24th hour, a folder that is not there": (
        _says_something_impossible
    ),
}
"""Mistakes of form that no schema finds: why, and which they are."""

UNSAID: dict[tuple[str, str], str] = {
    ("invalid_values", "timeout"): "a number of seconds beyond a hundred years is a number",
    ("malformed_routes", "GET /orders/{id}/{id}"): "a pattern that portable engines read cannot count names",
    ("an_overlay_with_another_type", "force_destroy"): "the overlay's type is another than the base's",
}
"""The others, one by one: by case and key."""


def excuse(case: str, mistake: Mistake, root: Mapping) -> Any:
    """Which rule or line of `UNSAID` explains that the schema says nothing of it; None when it has to."""
    rule = next((name for name, applies in RULES.items() if applies(mistake, root)), None)
    return rule or next(((case, str(p[-1])) for p in mistake.places if p and (case, str(p[-1])) in UNSAID), None)


@cache
def compared(case: str) -> Comparison | None:
    """A case as tests/golden/test_golden.py compiles it; None where it has no value."""
    folder = GOLDEN / case
    arguments: dict[str, Any] = {"environment": {}}
    if (folder / "arguments.json").exists():
        arguments |= json.loads((folder / "arguments.json").read_text())
    with contextlib.chdir(folder):
        result = compile_file(Path("buildflow.yaml"), **arguments)
    return compare(result) if NO_DOCUMENT.isdisjoint(d.code for d in result.diagnostics) else None


def missed(comparison: Comparison) -> list[Mistake]:
    """Mistakes of form that the schema does not complain of."""
    return [
        mistake
        for mistake in comparison.mistakes
        if mistake.diagnostic.code in OF_FORM and not found(mistake, comparison.complaints)
    ]


def unfounded(comparison: Comparison) -> list[Place]:
    """What the schema complains of, and the compiler does not: a squiggle under what is right. Where a key is
    misspelt, the compiler does not say that the right one is missing, too."""
    places = {place for mistake in comparison.mistakes for place in mistake.places}
    misspelt = {p[:-1] for m in comparison.mistakes if m.diagnostic.code == "BF201" for p in m.places}
    return [
        complaint
        for complaint in sorted(comparison.complaints - misspelt, key=str)
        if not any(complaint[: len(place)] == place for place in places)
    ]


@pytest.mark.parametrize("case", CASES)
def test_both_see_the_same_mistakes(case: str) -> None:
    if comparison := compared(case):
        assert [m for m in missed(comparison) if excuse(case, m, comparison.root) is None] == []
        assert unfounded(comparison) == []


def test_no_excuse_is_stale() -> None:
    needed: set[Any] = set()
    for case in CASES:
        if comparison := compared(case):
            needed |= {excuse(case, mistake, comparison.root) for mistake in missed(comparison)}
    assert needed - {None} == {*RULES, *UNSAID}


def blocks(path: Path) -> list[str]:
    """The YAML in a page that is a whole file."""
    found = re.findall(r"^```ya?ml[^\n]*\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
    return [block for block in found if re.search(r"^(project|app):", block, re.MULTILINE)]


SHOWN = {
    "the application": (ROOT / "buildflow.yaml").read_text(),
    **{f"the example of {t}": (ROOT / f"platform/buildflow/primitives/{t}/example.yaml").read_text()
       for t in all_primitives()},
    **{str(p.relative_to(ROOT)): p.read_text() for p in ROOT.glob("platform/buildflow/templates/**/buildflow.yaml")},
    **{f"{p.relative_to(ROOT)}, {n}": text
       for p in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))) for n, text in enumerate(blocks(p), 1)},
}  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_shown_fits(name: str) -> None:
    document, problems = parse(SHOWN[name], name)
    assert not problems
    assert [error.message for error in SCHEMA.iter_errors(plain(document.root))] == []


def test_all_that_is_to_be_shown_is() -> None:
    assert len(SHOWN) >= 1 + len(all_primitives()) + len(blocks(ROOT / "README.md"))
    assert blocks(ROOT / "README.md")
