"""What consumers and routes are bound to, in words, so that a plan can tell what changes of it."""

from collections.abc import Iterator, Mapping

from buildflow.ir.runtime import ConsumerPlan, RoutePlan, RuntimePlan


def binding_words(plan: RuntimePlan) -> dict[str, str]:
    """Each consumer and route: where it takes from, what handles it, where that goes."""
    consumers = {f"consumer {c.key}": _consumer(c) for c in plan.consumers}
    return {**consumers, **{f"route {r.method} {r.path}": _route(r) for r in plan.routes}}


def changed_bindings(old: Mapping[str, str] | None, new: Mapping[str, str]) -> Iterator[str]:
    """What changes, a line each; nothing before the first `apply`, when everything is new."""
    if old is None:
        return
    for key in dict.fromkeys([*old, *new]):
        if key not in new:
            yield f"{key}: removed (was {old[key]})"
        elif key not in old:
            yield f"{key}: new ({new[key]})"
        elif old[key] != new[key]:
            yield f"{key}: {old[key]} => {new[key]}"


def _consumer(consumer: ConsumerPlan) -> str:
    sinks = [consumer.sink] if consumer.sink else [sink.to for sink in consumer.sinks]
    return " -> ".join([consumer.source, consumer.handler.function, *([", ".join(sinks)] if sinks else [])])


def _route(route: RoutePlan) -> str:
    function = route.handler.function if route.handler else ""
    return " -> ".join(part for part in (function, route.sink or "") if part)
