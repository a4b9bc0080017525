"""Consumers and their pools: what the workers run."""

import re
from collections.abc import Iterable
from typing import Any

from buildflow.binding.columns import Unfit, check_rows, each_row
from buildflow.binding.messages import check_taken, fields_of
from buildflow.binding.parameters import bind, check_element, element_parameter
from buildflow.compiler.lower.dependencies import closure
from buildflow.compiler.lower.rows import check_sink
from buildflow.compiler.lower.state import Lowering, handler_plan
from buildflow.compiler.mistakes import EXCEPTIONS
from buildflow.compiler.validate import Declaration
from buildflow.diagnostics import Diagnostic, Related, Severity, misspelt
from buildflow.ir.runtime import BatchPlan, ConsumerPlan, DependencyPlan, PoolPlan, RetryPlan, SinkPlan
from buildflow.ir.signature import UNKNOWN, Parameter, Shape
from buildflow.spec.document import Sequence, at, plain
from buildflow.spec.project import HANDLER, Consumer, Replicas, SinkChoice

DEAD_LETTER = "buildflow.types:DeadLetter"


def lower_consumer(
    key: str, consumer: Consumer, dependencies: list[DependencyPlan], state: Lowering
) -> ConsumerPlan | None:
    place = ("consumers", key, "handler")
    state.used.update(k for k in (consumer.source, consumer.dead_letter, *(s.to for s in consumer.sinks)) if k)
    _dead_letters(key, consumer, state)
    _exceptions(key, state)
    signature = state.signature(consumer.handler, *place)
    returns = signature.returns if signature else UNKNOWN
    for choice in consumer.sinks:
        rows = returns if len(consumer.sinks) == 1 else _reaching(choice, returns)
        check_sink(rows, choice.to, consumer.handler, place, state)
    sinks = tuple(_sink(key, number, choice, returns, state) for number, choice in enumerate(consumer.sinks))
    if signature is None or not state.declaration.knows("consumers", key, "inject"):
        return None
    bound = bind(signature, state.names, explicit=consumer.inject)
    state.use(bound)
    element, problems = element_parameter(signature, bound, state.names)
    problems += _without_request(closure([handler_plan(signature, bound)], dependencies), state)
    state.unfit([*bound.problems, *problems], *place, about=f"{consumer.handler}: ")
    source = state.declaration.primitives.get(consumer.source)
    carried = source[0].element if source else ""
    if element is not None:
        _check_element(key, consumer, element, carried, state)
        _check_concurrency(key, consumer, element, state)
    return ConsumerPlan(
        key=key,
        source=consumer.source,
        handler=handler_plan(signature, bound, element.name if element else None, carried),
        sink=consumer.sink if isinstance(consumer.sink, str) else None,
        sinks=() if isinstance(consumer.sink, str) else sinks,
        pool=consumer.pool,
        concurrency=consumer.concurrency,
        ordering=consumer.ordering.key if consumer.ordering else None,
        rate_limit=consumer.rate_limit,
        idempotency_key=consumer.idempotency_key,
        batch=BatchPlan(**consumer.batch.model_dump()),
        retry=RetryPlan(**consumer.retry.model_dump()),
        dead_letter=consumer.dead_letter,
        timeout=consumer.timeout,
    )


def _without_request(needed: tuple[str, ...], state: Lowering) -> list[Unfit]:
    """A consumer has no request: dependencies that read one cannot be built for it."""
    return [
        Unfit(
            "BF304", f'it needs "{key}", which reads {state.of_request[key]} from a request: a consumer has none', hint
        )
        for key in needed
        if key in state.of_request
        for hint in ("take it out of the consumer, or give its parameter a default",)
    ]


def _check_element(key: str, consumer: Consumer, element: Parameter, carried: str, state: Lowering) -> None:
    """The element's type against what the source carries, and the fields of it that the consumer names."""
    place = ("consumers", key, "handler")
    about = f"{consumer.handler}: "
    if message := state.message(consumer.source):
        also = (Related(f'"{consumer.source}" carries {message[0].text}', message[1]),)
        state.unfit(check_taken(element, message[0], consumer.source), *place, about=about, also=also)
    else:
        state.unfit(check_element(element, carried, consumer.source), *place, about=about)
    known = fields_of(message[0] if message else element.shape)
    for field_place, name in (
        (("ordering", "key"), consumer.ordering.key if consumer.ordering else None),
        (("idempotency_key",), consumer.idempotency_key),
    ):
        if name is not None and known is not None and name not in known:
            _no_field(name, known, f'the elements of "{consumer.source}" have', ("consumers", key, *field_place), state)


def _check_concurrency(key: str, consumer: Consumer, element: Parameter, state: Lowering) -> None:
    """A batch is one call: there are no elements beside each other."""
    number = consumer.concurrency
    if number > 1 and element.shape.is_batch:
        message = f"{consumer.handler} takes {element.shape.text}, one batch at a time: `concurrency` changes nothing"
        hint = f"remove it, and write `replicas: {number}` to handle {number} batches at once"
        span = state.declaration.key_span("consumers", key, "concurrency")
        related = (Related("the code that this is about", element.place.span()),)
        state.found.append(Diagnostic("BF228", message, span, hint, related, Severity.WARNING))


def _no_field(name: str, known: Iterable[str], whose: str, path: tuple[Any, ...], state: Lowering) -> None:
    span = state.declaration.span(*path)
    state.found.append(misspelt("BF226", f'{whose} no field "{name}"', span, name, known))


def _sink(key: str, number: int, choice: SinkChoice, returns: Shape, state: Lowering) -> SinkPlan:
    """One of several sinks; the type, or the fields, by which rows go there."""
    place = ("consumers", key, "sink", number, "when")
    if isinstance(choice.when, str):
        if problem := state.sources.names(choice.when):
            state.unfit([problem], *place, about="")
        elif isinstance(shape := state.sources.shape(choice.when), Shape):
            check_sink(shape, choice.to, choice.when, place, state)
        return SinkPlan(to=choice.to, type=choice.when)
    rows = [known for shape in each_row(returns) if (known := fields_of(shape)) is not None]
    for name in choice.when or {}:
        if rows and not any(name in known for known in rows):
            span = state.declaration.key_span(*place, name)
            known = [name for fields in rows for name in fields]
            state.found.append(misspelt("BF226", f'what it returns has no field "{name}"', span, name, known))
    return SinkPlan(to=choice.to, fields=choice.when or {})


def _reaching(choice: SinkChoice, returns: Shape) -> Shape:
    """What of the return type may go to one of several sinks: all of it without `when`; by fields, the rows that may
    have them. By a class, what is returned says nothing: the class itself is held against the sink."""
    if choice.when is None:
        return returns
    if isinstance(choice.when, str):
        return UNKNOWN
    rows = [(shape, known) for shape in each_row(returns) if (known := fields_of(shape)) is not None]
    able = tuple(shape for shape, known in rows if all(name in known for name in choice.when))
    return Shape(kind="union", options=able) if able else UNKNOWN if rows else returns


def _exceptions(key: str, state: Lowering) -> None:
    """The exceptions that `retry` names are there, and are exceptions."""
    for kind in ("only", "never"):
        place = ("consumers", key, "retry", kind)
        listed = at(state.declaration.root, place)  # beside one that is malformed, the others are there
        for index, node in enumerate(listed.items if isinstance(listed, Sequence) else ()):
            name = str(plain(node))
            if re.fullmatch(HANDLER, name) and (problem := state.sources.names(name) or _no_exception(name, state)):
                state.unfit([problem], *place, index, about="")


def _no_exception(name: str, state: Lowering) -> Unfit | None:
    """What is surely none: a function, an alias of a plain type, what Python calls otherwise."""
    module, _, own = name.partition(":")
    if module == "builtins":
        is_one = own in EXCEPTIONS
    else:
        shape = state.sources.shape(name)
        is_one = isinstance(shape, Shape) and shape.kind in ("named", "record", "unknown")
    return None if is_one else Unfit("BF204", f"{name} is no exception", "name a class that is raised")


def _dead_letters(key: str, consumer: Consumer, state: Lowering) -> None:
    """The table of a consumer's dead letters has columns for them."""
    table = consumer.dead_letter
    if table is not None and table in state.columns and not _takes_letters(table, state):
        message = f'"{table}" has other columns than a dead letter'
        problem = Unfit("BF215", message, f"give it `columns: {DEAD_LETTER}`")
        state.unfit([problem], "consumers", key, "dead_letter", about="")


def _takes_letters(table: str, state: Lowering) -> bool:
    if table not in state.takes_letters:
        columns, letter = state.columns[table], state.sources.shape(DEAD_LETTER)
        unfit = isinstance(letter, Shape) and columns and check_rows(letter, columns, table)
        state.takes_letters[table] = not unfit
    return state.takes_letters[table]


def lower_pools(
    consumers: list[ConsumerPlan], dependencies: list[DependencyPlan], declaration: Declaration
) -> Iterable[PoolPlan]:
    for name in dict.fromkeys(c.pool for c in consumers):
        mine = [c for c in consumers if c.pool == name]
        wanted = [declaration.consumers[c.key].replicas for c in mine]
        growing = [r for r in wanted if isinstance(r, Replicas)]
        yield PoolPlan(
            name=name,
            replicas=max(r.min if isinstance(r, Replicas) else r for r in wanted),
            max_replicas=max((r.max for r in growing), default=None),
            target_backlog=min((r.target_backlog for r in growing), default=None),
            consumers=tuple(c.key for c in mine),
            dependencies=closure((c.handler for c in mine), dependencies),
        )
