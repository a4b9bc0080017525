"""What each binding promises, in words: `plan` and `graph` show it."""

from collections.abc import Iterable

from buildflow.ir.runtime import ConsumerPlan, RuntimePlan
from buildflow.primitives.base import AT_LEAST_ONCE, EFFECTIVELY_ONCE
from buildflow.primitives.registry import all_primitives


def sinks_of(consumer: ConsumerPlan) -> list[str]:
    """The keys of a consumer's sinks, each once."""
    return list(dict.fromkeys([*([consumer.sink] if consumer.sink else []), *(sink.to for sink in consumer.sinks)]))


def guarantee(consumer: ConsumerPlan, plan: RuntimePlan) -> str:
    """How often a consumer's rows arrive: as its weakest sink says. Without a sink, how often its handler runs."""
    found = {all_primitives()[plan.resource(key).type].guarantee for key in sinks_of(consumer)}
    return EFFECTIVELY_ONCE if found == {EFFECTIVELY_ONCE} else AT_LEAST_ONCE


def bindings(plan: RuntimePlan) -> Iterable[tuple[ConsumerPlan, str]]:
    """Every consumer with what it promises."""
    return ((consumer, guarantee(consumer, plan)) for consumer in plan.consumers)
