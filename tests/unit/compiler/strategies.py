"""Files that Hypothesis writes: any text, and documents built from the models, most of them almost right.

What a field may be is read off its annotation; a field that a primitive or a section gains is written here at once.
"""

from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel

from buildflow.primitives.base import ColumnsReference, MessageReference, Reference
from buildflow.primitives.registry import all_primitives, driver, providers_of
from buildflow.spec import project
from buildflow.spec.project import BUILT_INS, HANDLER, IDENTIFIER
from buildflow.spec.values import URL, SecretMark

Texts = st.SearchStrategy[str]

MODULE = """
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict


@dataclass
class Row:
    id: int
    note: str | None = None


class Other(TypedDict):
    id: int


class Oops(Exception): ...


class Middleware:
    def __init__(self, app, **options): ...


def empty(): ...
def index(bucket_a, dependency_a): ...
def typed(queue_a: "Queue", page: int = 1) -> dict: ...
def with_path(id: int, table_a): ...
def work(element, dependency_b) -> Row: ...
def many(elements: list[dict]) -> list[Row]: ...
def nothing(element: dict) -> None: ...
async def slow(element: Any) -> Other: ...
def make(**options): ...
def needs(dependency_a, limit=3): ...
"""
"""The module `app` beside every file."""
ROUTE_HANDLERS = ("app:empty", "app:index", "app:typed")
ELEMENT_HANDLERS = ("app:work", "app:many", "app:nothing", "app:slow")
ROUTES = ("GET /", "POST /orders", "get /a")

YAML_PIECES = (
    *("project: shop\n", "stacks:\n", "  local: {provider: local}\n", "primitives:\n", "  a: {type: queue}\n"),
    *("routes:\n", "  GET /: app:empty\n", "consumers: {c: {source: a, handler: app:work}}\n", "x-a: ", "format: "),
    *("include: ", "app: ", "pulumi_config:\n", "- ", "? ", ": ", "{", "}", "[", "]", ",", "\t", "  ", "~", "null"),
    *("&a ", "*a", "<<: *a", "!!str ", "!x", "|\n", ">-\n", "'", '"', "#", "%", "@", "`", "---\n", "...\n", "\r\n"),
    *("true", "0x1F", "1e999", ".nan", "\n", "${", "${var.a}", "${env.X:-}", "$${", "}", "\x85", "\u2028", "\ufeff"),
    *("\x00", "\x1b", "\U0001f600", "\ud7ff", "é"),
)

pieces: Texts = st.sampled_from(YAML_PIECES) | st.text(max_size=4)
BASE = (Path(__file__).parents[2] / "mutation/everything/buildflow.yaml").read_text()
"""A file that names every key of the language."""


@st.composite
def edited(draw: st.DrawFn, text: str = BASE) -> str:
    """A right file with some pieces cut out, put in, or put over others."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(pieces | st.just("")) + text[start + draw(st.integers(0, 30)) :]
    return text


any_text: Texts = st.text() | st.lists(pieces, max_size=25).map("".join) | edited()

_words = st.sampled_from(("${var.a}", "a", "1")) | st.text(max_size=8)
_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _words
anything: st.SearchStrategy[Any] = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
texts: Texts = st.sampled_from(
    ("shop", "eu", "a-b", "", "/x", "{id}", "5", "${project}", "${stack}-x", "${env.NAME}", "${env.NO:-y}", "$${kept}")
) | st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Zs")), max_size=12)

READERS: dict[str, tuple[Any, ...]] = {
    "parse_duration": ("2m", "120s", 120, "0h2m0s", "120000ms"),
    "parse_size": ("10MB", "1GiB", 4096, "1.5KB"),
    "parse_rate": ("100/s", "30/m", "10/h"),
    "parse_cron": ("0 6 * * mon-fri", "*/5 0-12 1,15 jan *"),
    "parse_time_zone": ("UTC", "Europe/Berlin"),
}
PATTERNS: dict[str, tuple[str, ...]] = {
    HANDLER: ("app:Oops", "builtins:OSError"),
    IDENTIFIER: ("dependency_a", "none", "main"),
    URL: ("redis://h:1/0", "file://x"),
    project.PREFIX: ("", "/api", "/v1/x"),
    project.PROJECT_NAME: ("shop", "a-1"),
}
KEYS = {type_: tuple(f"{type_}_{letter}" for letter in "ab") for type_ in all_primitives()}
"""The primitives that a document declares, by their type."""
HERE = [type_ for type_ in KEYS if "local" in providers_of(type_)]


def _with_role(role: str) -> list[str]:
    return [key for type_ in HERE if hasattr(driver(type_, "local"), role) for key in KEYS[type_]]


NAMED: dict[str, st.SearchStrategy[Any]] = {
    "sink": st.sampled_from(_with_role("sink")),
    "to": st.sampled_from(_with_role("sink")),
    "dead_letter": st.just("letters"),
    "service": st.sampled_from(("service_a", "service_b")),
    "auth": st.just("dependency_b"),
    "origins": st.just(["https://example.com"]),
    "methods": st.just(["GET", "POST"]),
    "file": st.just("secrets.env"),
    "object": st.just("{date}/{id}.{extension}"),
    "class_": st.just("app:Middleware"),
    "when": st.sampled_from(("app:Row", {"id": 1}, {"note": None})),
    "inject": st.just({}),
    "provider": st.none() | st.just("local"),
    "key": st.just("id"),
    "idempotency_key": st.just("id"),
    "filter": st.just({"a": ["b"]}),
    "upsert": st.just([]),
    "database": st.sampled_from(KEYS["database"]) | st.none(),
    "columns": st.sampled_from(("app:Row", "app:Other", {"id": "integer", "note": "string?"})),
    "message": st.sampled_from(("app:Row", "app:Other")) | st.none(),
}
"""Fields whose values have to fit to other parts of the document."""


@st.composite
def almost(draw: st.DrawFn, right: st.SearchStrategy[Any], wrong: int, other: st.SearchStrategy[Any] = anything) -> Any:
    """A right value, or one time in `wrong` any other."""
    return draw(other) if wrong and draw(st.integers(0, wrong)) == wrong else draw(right)


def of_model(model: type[BaseModel], wrong: int, **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A mapping for a model: what is required, some of the rest, and seldom a key that it has not."""
    required: dict[str, Any] = {}
    optional: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        key = info.alias or name
        known = {**NAMED, **fixed}
        right = known[name] if name in known else of(info.annotation, tuple(info.metadata), wrong)
        (required if info.is_required() or name in fixed else optional)[key] = almost(right, wrong)
    right_keys = st.fixed_dictionaries(required, optional=optional)
    strange = st.dictionaries(st.sampled_from(("tpye", "x", *optional)), anything, max_size=1)
    return st.tuples(right_keys, almost(st.just({}), wrong, strange)).map(lambda both: {**both[0], **both[1]})


def of(annotation: Any, metadata: tuple[Any, ...], wrong: int) -> st.SearchStrategy[Any]:
    """Values that a field of this annotation takes, or nearly."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return of(arguments[0], (*metadata, *arguments[1:]), wrong)
    if origin in (Union, UnionType):
        return st.one_of([of(a, metadata, wrong) for a in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is list:
        return st.lists(of(arguments[0], metadata, wrong), min_size=1, max_size=3)
    if origin is dict:
        return st.dictionaries(st.sampled_from(("a", "b", "limit")), texts | st.integers(), max_size=2)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return of_model(annotation, wrong)
    return _scalar(annotation, metadata)


def _scalar(annotation: Any, metadata: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    for mark in metadata:
        if isinstance(mark, Reference):
            return st.sampled_from(KEYS[mark.type])
        if isinstance(mark, ColumnsReference | MessageReference):
            return NAMED["message" if isinstance(mark, MessageReference) else "columns"]
        if isinstance(mark, SecretMark):
            return st.sampled_from(("${secret.A}", "${secret.B_2}"))
        if (reader := getattr(getattr(mark, "func", None), "__name__", "")) in READERS:
            return st.sampled_from(READERS[reader])
        if pattern := getattr(mark, "pattern", None):
            return st.sampled_from(PATTERNS[pattern]) if pattern in PATTERNS else st.from_regex(pattern, fullmatch=True)
    numbers = st.integers(*_bounds(metadata))
    return {
        **{bool: st.booleans(), int: numbers, float: numbers.map(lambda n: n / 50), str: texts, NoneType: st.none()}
    }.get(annotation, texts)


def _bounds(marks: tuple[Any, ...]) -> tuple[int, int]:
    """Between which numbers a field's value may be; above 0, and not far."""
    low = max([1, *(int(m.ge) for m in marks if hasattr(m, "ge")), *(int(m.gt) + 1 for m in marks if hasattr(m, "gt"))])
    high = min([low + 49, *(int(m.le) for m in marks if hasattr(m, "le"))])
    return low, max(low, high)


PLAIN: dict[str, dict[str, Any]] = {
    "database": {"columns": "app:Row", "table": "rows"},
    "file": {"path": "x.jsonl"},
    "file_change_stream": {"bucket": "bucket_a"},
    "schedule": {"every": "1m"},
    "subscription": {"topic": "topic_a"},
    "table": {"columns": "app:Row"},
}
"""What a primitive of each type needs; those that are not here need nothing."""


@cache
def documents(wrong: int = 12) -> st.SearchStrategy[dict[str, Any]]:
    """A whole project: of every primitive type two, so that references find one, and some of them with all fields."""
    types = [*KEYS] if 0 < wrong < 10 else HERE
    bodies = {
        type_: of_model(all_primitives()[type_].spec, wrong, type=st.just(type_), name=st.none()) for type_ in types
    }
    parts = {
        "project": almost(st.sampled_from(("shop", "${env.NAME:-a}-b")), wrong),
        "variables": texts.map(lambda text: {"a": text, "b": "${var.a}"}),
        "stacks": almost(_stacks(wrong), wrong),
        "options": almost(of_model(project.Options, wrong), wrong),
        "dependencies": almost(_dependencies(wrong), wrong),
        "services": almost(_entries(("service_a", "service_b"), of_model(project.Service, wrong)), wrong),
        "routes": almost(st.dictionaries(st.sampled_from(ROUTES), _route(wrong), max_size=2), wrong),
    }
    chosen = st.lists(
        st.sampled_from([(type_, key) for type_ in types for key in KEYS[type_]]), max_size=3, unique=True
    )
    sources = st.lists(st.sampled_from(_with_role("source")), unique=True, max_size=2)
    consumer = of_model(project.Consumer, wrong, handler=st.sampled_from(ELEMENT_HANDLERS), source=st.just(""))

    @st.composite
    def whole(draw: st.DrawFn) -> dict[str, Any]:
        primitives = {key: {"type": type_, **PLAIN.get(type_, {})} for type_ in types for key in KEYS[type_]}
        primitives |= {key: draw(bodies[type_]) for type_, key in draw(chosen)}
        for key in KEYS["file"]:  # two files of one name would be one
            primitives[key] = {**primitives[key], "path": f"{key}.jsonl"}
        primitives["letters"] = {"type": "table", "columns": "buildflow.types:DeadLetter"}
        consumers = {f"on_{source}": {**draw(consumer), "source": source} for source in draw(sources)}
        drawn = {key: draw(part) for key, part in parts.items()}
        return {key: v for key, v in {**drawn, "primitives": primitives, "consumers": consumers}.items() if v != {}}

    return whole()


def _entries(keys: tuple[str, ...], values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(dict.fromkeys(keys, values))


def _stacks(wrong: int) -> st.SearchStrategy[Any]:
    overlay = st.fixed_dictionaries(
        {}, optional={"options": of_model(project.Options, wrong), "primitives": st.just({"queue_a": {"lease": "9s"}})}
    )
    local = of_model(project.Stack, wrong, provider=st.just("local"))
    return st.fixed_dictionaries(
        {"local": st.tuples(local, overlay).map(lambda both: {**both[0], **both[1]})},
        optional={"other": of_model(project.Stack, wrong, provider=st.just("local"))},
    )


def _dependencies(wrong: int) -> st.SearchStrategy[Any]:
    def dependency(factory: str, **more: Any) -> st.SearchStrategy[Any]:
        return of_model(project.Dependency, wrong, factory=st.just(factory), **{k: st.just(v) for k, v in more.items()})

    made = dependency("app:make", with_={"a": "${secret.A}"})
    needy = dependency("app:needs", with_={}, scope="request")
    built_in = st.one_of([of_model(model, wrong) for name, model in BUILT_INS.items() if not model.references])
    return st.fixed_dictionaries({"dependency_a": made, "dependency_b": needy}, optional={"built_in": built_in})


def _route(wrong: int) -> st.SearchStrategy[Any]:
    handler = st.sampled_from(ROUTE_HANDLERS)
    return handler | of_model(project.Route, wrong, handler=handler)
