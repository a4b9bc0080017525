"""What each binding promises, in words: `plan` and `graph` show it."""

from collections.abc import Iterable
from functools import cache
from typing import get_type_hints

from buildflow.ir.runtime import ConsumerPlan, RuntimePlan
from buildflow.primitives.registry import driver

AT_LEAST_ONCE = "at least once"


def sinks_of(consumer: ConsumerPlan) -> list[str]:
    """The keys of a consumer's sinks, each once."""
    return list(dict.fromkeys([*([consumer.sink] if consumer.sink else []), *(sink.to for sink in consumer.sinks)]))


def guarantee(consumer: ConsumerPlan, plan: RuntimePlan) -> str:
    """How often a consumer's rows arrive: as its weakest sink says. Without a sink, how often its handler runs."""
    found = {_of_driver(r.type, r.provider) for r in (plan.resource(key) for key in sinks_of(consumer))}
    if not found or AT_LEAST_ONCE in found:
        return AT_LEAST_ONCE
    return "".join(found) if len(found) == 1 else ""


@cache
def _of_driver(type: str, provider: str) -> str:
    """What a sink's class promises. The class is what the driver says it makes: none is made here."""
    made = get_type_hints(driver(type, provider).sink).get("return")
    return str(getattr(made, "guarantee", ""))


def bindings(plan: RuntimePlan) -> Iterable[tuple[ConsumerPlan, str]]:
    """Every consumer with what it promises."""
    return ((consumer, guarantee(consumer, plan)) for consumer in plan.consumers)
