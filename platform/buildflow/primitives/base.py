"""What a primitive is and what its drivers do. A primitive lives in one folder; nothing else names it."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field

from buildflow.errors import BuildflowError
from buildflow.ir.column_types import Store
from buildflow.ir.columns import Column
from buildflow.ir.graph import Resource
from buildflow.providers.names import NameRule
from buildflow.spec.project import ProviderName


class Role(StrEnum):
    """What a consumer or a handler may do with a primitive."""

    SOURCE = "source"
    SINK = "sink"
    STORE = "store"


@dataclass(frozen=True)
class Reference:
    """Marks a Spec's field as the key of another primitive: `Annotated[str, Reference("bucket")]`."""

    type: str


@dataclass(frozen=True)
class ColumnsReference:
    """Marks a Spec's field that names a row type (`module:Class`) or maps columns to types inline."""


@dataclass(frozen=True)
class MessageReference:
    """Marks a Spec's field that names what its messages are (`module:Class`)."""


@dataclass(frozen=True)
class ColumnNames:
    """Marks a Spec's field that lists columns of the same primitive."""


class Options(BaseModel):
    """A strict mapping inside a Spec."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Spec(Options):
    """The body of one primitive. Descriptions are what the schema, the docs and the editor show."""

    type: str
    provider: ProviderName | None = Field(
        default=None, description="Run this primitive on another provider than the stack's."
    )
    managed: bool = Field(
        default=True,
        description="`false` refers to something that exists: it is never created, changed or destroyed.",
    )
    name: str | None = Field(
        default=None, min_length=1, description="The physical name. Without one: `{project}-{stack}-{key}`."
    )

    def with_references(self, referred: Mapping[str, "Spec"]) -> Self:  # noqa: ARG002 - for those that override it
        """Itself, with what it takes over from the primitives that its fields name; `referred` are these, by field."""
        return self

    def no_sink(self) -> str:
        """Why this one, though of a type that may be a sink, is none: in words, empty when it is one."""
        return ""

    def lacks_on(self, provider: str) -> str:  # noqa: ARG002 - for those that override it
        """The field that this provider needs and that is not there; empty when there is none."""
        return ""


SpecType = type[Spec]


KEEP_DAYS = 15
"""Ids are kept for longer than any source redelivers: SQS keeps a message 14 days at most (4 unless told otherwise),
Pub/Sub 7 days; a Redis stream's lease ends within minutes."""
AT_LEAST_ONCE, EFFECTIVELY_ONCE = "at least once", "effectively once"
"""How often a row arrives at a sink."""


@dataclass(frozen=True)
class Primitive:
    """One primitive type: its Spec, its roles, what its source carries, what its handle looks like.

    `handle` is the dotted name of the handle's type in `buildflow.types`, "" when handlers get none;
    `element` the dotted name of what a source carries, "" when that is up to the sender; `names` say what each
    provider takes as its physical name (where that depends on a field, a function of the Spec does), `stores` what
    holds its columns there; `guarantee` is that of its sinks, on every provider, "" where it is none.
    """

    type: str
    summary: str
    spec: SpecType
    roles: frozenset[Role]
    handle: str = ""
    element: str = ""
    names: Mapping[str, NameRule | Callable[[Any], NameRule]] = field(default_factory=dict)
    stores: Mapping[str, Store] = field(default_factory=dict)
    guarantee: str = ""


def name_rule(primitive: Primitive, provider: str, spec: Spec) -> NameRule | None:
    """What a provider takes as this one's name; None where it takes any."""
    rule = primitive.names.get(provider)
    return rule if rule is None or isinstance(rule, NameRule) else rule(spec)


class Action(StrEnum):
    """How a driver brings a resource from one recorded state to the declared one."""

    NONE = "none"
    UPDATE = "update"
    REPLACE = "replace"


@dataclass(frozen=True)
class Change:
    """What a driver answers when asked what a new declaration means for what exists.

    `fields` are the changed fields in words a user reads ("columns.note: added"); `loses_data` names what would
    be lost, empty when nothing is.
    """

    action: Action
    fields: tuple[str, ...] = ()
    loses_data: str = ""


@dataclass(frozen=True, slots=True)
class Element:
    """One leased element.

    `id` is the same on every delivery of it; `receipt` is this lease's handle at the source; `attempt` is 1 the
    first time, counted when leased; `alone` asks for a group of its own, because an earlier delivery ended
    without a report (its process may have died of it).
    """

    id: str
    body: bytes
    receipt: str
    attempt: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)
    sent_at: datetime | None = None
    alone: bool = False


class Counts(NamedTuple):
    """Elements of a source."""

    backlog: int
    """They wait, those that are delayed included."""
    in_flight: int
    """They are leased."""


class Source(Protocol):
    """Where a consumer's elements come from. Used by the worker's main process only, from several threads."""

    def wait(self, seconds: float) -> None:
        """Block until an element may be there, `seconds` at most. May return early."""
        ...

    def lease(self, limit: int) -> Sequence[Element]:
        """Take up to `limit` elements for `lease_seconds`, at once: an empty answer when there are none."""
        ...

    lease_seconds: float

    def renew(self, elements: Sequence[Element]) -> None:
        """Keep these leases for another `lease_seconds`."""
        ...

    def acknowledge(self, elements: Sequence[Element]) -> None:
        """Done: they never come again."""
        ...

    def release(self, element: Element, *, delay: float = 0.0, alone: bool = False, counted: bool = True) -> None:
        """Give one back; it comes again after `delay` seconds, kept at the source. The attempt counts, unless it is
        not `counted`: something failed that the element cannot help."""
        ...

    def send(self, body: bytes, headers: Mapping[str, str], id: str | None = None) -> str:
        """Append an element; returns its durable id."""
        ...

    def counts(self) -> Counts:
        """What it holds, seen at one moment: an element that moves is in one of the numbers."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """What one element (or one batch) became: its id and the rows that its handler returned."""

    id: str
    rows: Sequence[Any]


class SeenBefore(BuildflowError):
    """Some of these elements were committed before."""


class Sink(Protocol):
    """Where a consumer's rows go. Used in one pool child (or gateway) process; connects on first use."""

    guarantee: str
    """`EFFECTIVELY_ONCE` or `AT_LEAST_ONCE`, as its `Primitive` says."""

    def check(self, row: Any) -> None:
        """Raise `InvalidRow`, in words, when `row` cannot be stored; writes nothing."""
        ...

    def commit(self, writer: str, entries: Sequence[Entry], *, fresh: bool = False) -> None:
        """Store the rows of all entries, durable when this returns, all or none. Where the sink is transactional,
        rows and element ids commit together and an entry whose (writer, id) was committed before is skipped; one
        whose id is empty never is, and leaves no mark. A sink that sends messages also has `message_ids(writer,
        entry)`: the ids under which the entry's rows are sent, the same at every repetition.

        `fresh` is for rows that cannot be told apart by entry: such a sink raises `SeenBefore` instead of skipping
        one, also when an id repeats among `entries`; one that is not transactional ignores it. Without entries it
        makes itself ready, before the first ones come."""
        ...

    def close(self) -> None: ...


class Driver(Protocol):
    """One primitive on one provider. Methods that touch the world take a session of that provider."""

    label: str
    """The type as `apply` prints it, e.g. "GCSBucket"."""

    outputs: tuple[str, ...]
    """What is known after apply, for `${primitives.key.output}`."""

    def name(self, key: str, spec: Any, project: str, stack: str) -> str:
        """The physical name; an explicit `name:` wins."""
        ...

    def identify(self, resource: Resource, settings: Any) -> str:
        """The id that `apply` prints, from the declaration alone."""
        ...

    def check_name(self, name: str) -> str:
        """Why the provider will refuse this name, in words; empty when it will not."""
        ...


@dataclass(frozen=True)
class Grant:
    """What whoever uses a resource has to be allowed: `actions` on the resource `of`, by its key.

    `on` is the output of its component that holds the ARN (one that has no such output grants nothing: a bucket
    without a key of its own), `below` what is appended to it ("/*" for a bucket's objects).
    """

    of: str
    actions: tuple[str, ...]
    on: str = "arn"
    below: str = ""


@dataclass(frozen=True)
class Refusal:
    """What a provider will refuse: the field, by its path below the primitive (empty: the primitive itself), why, and
    the cure."""

    field: tuple[str | int, ...]
    why: str
    hint: str


class CloudDriver(Driver, Protocol):
    """A driver of a cloud's primitive: Pulumi creates it, from what is declared here.

    It may have three more methods, which the compiler asks before anything is created. `refuses(resource, referred)`
    yields a `Refusal` for each thing that the cloud will refuse; `clash(one, other)` gives the `Refusal` of two that
    refer to the same primitives and cannot stand beside each other, `None` of others; `unordered(resource, referred)`
    says of a source that does not keep the order of its elements what it is, and what cures that, and gives `None` of
    one that does. `referred` are the resources that it refers to, by field.
    """

    def declare(self, resource: Resource, program: Any) -> Any:
        """Register a `ComponentResource` with its children in a `CloudProgram`, and return it; its `outputs` are a
        mapping of names to Pulumi outputs, those in `Driver.outputs` and every ARN that a `Grant` names."""
        ...

    def grants(self, resource: Resource, role: Role) -> tuple[Grant, ...]:
        """The least that a processor needs which uses it in this role."""
        ...

    def content(self, resource: Resource, session: Any) -> str:
        """What deleting it would lose, in words ("12 objects"); empty when it holds nothing."""
        ...

    source: Callable[[Resource, Any], Source]
    sink: Callable[[Resource, Any], Sink]
    handle: Callable[[Resource, Any], Any]


class LocalDriver(Driver, Protocol):
    """A driver that creates things itself: all those of `provider: local`, and what a cloud's stack keeps outside
    of the cloud (a DuckDB table, a schedule's clock)."""

    def create(self, resource: Resource, session: Any) -> dict[str, Any]:
        """Create it (or adopt what is there already) and return its outputs."""
        ...

    def exists(self, resource: Resource, session: Any) -> bool: ...

    def compare(self, old: Resource, new: Resource, session: Any) -> Change:
        """What bringing `old` to `new` takes."""
        ...

    def update(self, old: Resource, new: Resource, session: Any) -> dict[str, Any]: ...

    def content(self, resource: Resource, session: Any) -> str:
        """What deleting it would lose, in words ("12 objects"); empty when it holds nothing."""
        ...

    def delete(self, resource: Resource, session: Any) -> None: ...

    source: Callable[[Resource, Any], Source]
    sink: Callable[[Resource, Any], Sink]
    handle: Callable[[Resource, Any], Any]


def row_values(row: Any, columns: Sequence[Column]) -> Mapping[str, Any]:
    """A row as a mapping: a dataclass, a pydantic model, a NamedTuple or a mapping; nested ones stay as they
    are."""
    if isinstance(row, Mapping):
        return row
    if isinstance(row, BaseModel):
        return {name: getattr(row, name) for name in type(row).model_fields}
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return {f.name: getattr(row, f.name) for f in dataclasses.fields(row)}
    if isinstance(row, tuple) and hasattr(row, "_asdict"):
        return dict(row._asdict())
    raise TypeError(f"a {type(row).__name__} is no row of {[c.name for c in columns]}")


def flatten(rows: Any) -> Iterator[Any]:
    """What a consumer returned as rows: `None` is none, a list, tuple or iterator is its items, else itself."""
    if rows is None:
        return
    if isinstance(rows, list | tuple | Iterator) and not hasattr(rows, "_asdict"):
        yield from rows
    else:
        yield rows
