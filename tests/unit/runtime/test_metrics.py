"""What a scraper reads of consumers and pools."""

import json
from typing import Any

from buildflow.errors import ServiceUnavailable
from buildflow.primitives.base import Counts
from buildflow.runtime.metrics import Sample, as_text, delivery_samples

WORKER = {
    "kind": "worker",
    "host": "here",
    "pid": 7,
    "pool": "main",
    "consumers": {"note": {"done": 1234567, "failed": 3, "dead": 2, "rate": 1.5, "last_error": "no"}},
}
SCALING = {"replicas": 2, "wanted": 4, "backlog": 90, "rate": 12.5}


class Consumer:
    key, source = "note", "arrivals"


class Connections:
    """A stack of one consumer, with these processes."""

    namespace = "shop-local"

    class plan:
        consumers = (Consumer,)

    def __init__(self, *processes: Any) -> None:
        self.entries = {f"shop-local:process:{n}": json.dumps(p) for n, p in enumerate(processes)}

    def source(self, key: str) -> Any:
        assert key == "arrivals"
        return self

    def counts(self) -> Counts:
        return Counts(backlog=5, in_flight=2)

    def state(self) -> Any:
        return self

    def scan_iter(self, pattern: str) -> list[str]:
        return [key for key in self.entries if key.startswith(pattern.rstrip("*"))]

    def mget(self, keys: list[str]) -> list[str | None]:
        return [self.entries[key] for key in keys]


def lines(connections: Any) -> list[str]:
    return as_text(delivery_samples(connections)).decode().splitlines()


def test_the_figures_of_consumers_and_pools() -> None:
    worker = 'worker="here:7"'
    assert lines(Connections({**WORKER, "scaling": SCALING}, {"kind": "watcher", "host": "here", "pid": 8})) == [
        "# TYPE buildflow_delivery_readable gauge",
        "buildflow_delivery_readable 1",
        "# TYPE buildflow_consumer_backlog gauge",
        'buildflow_consumer_backlog{consumer="note"} 5',
        "# TYPE buildflow_consumer_in_flight gauge",
        'buildflow_consumer_in_flight{consumer="note"} 2',
        "# TYPE buildflow_consumer_done_total counter",
        f'buildflow_consumer_done_total{{consumer="note",{worker}}} 1234567',
        "# TYPE buildflow_consumer_failed_total counter",
        f'buildflow_consumer_failed_total{{consumer="note",{worker}}} 3',
        "# TYPE buildflow_consumer_dead_total counter",
        f'buildflow_consumer_dead_total{{consumer="note",{worker}}} 2',
        "# TYPE buildflow_pool_processes gauge",
        f'buildflow_pool_processes{{pool="main",{worker}}} 2',
        "# TYPE buildflow_pool_processes_wanted gauge",
        f'buildflow_pool_processes_wanted{{pool="main",{worker}}} 4',
        "# TYPE buildflow_pool_backlog gauge",
        f'buildflow_pool_backlog{{pool="main",{worker}}} 90',
        "# TYPE buildflow_pool_rate gauge",
        f'buildflow_pool_rate{{pool="main",{worker}}} 12.5',
    ]


def test_a_pool_that_does_not_scale_says_nothing_of_it() -> None:
    assert not any(
        "pool" in line for scaling in ({}, None) for line in lines(Connections({**WORKER, "scaling": scaling}))
    )


def test_what_cannot_be_read_is_left_out() -> None:
    class Gone(Connections):
        def state(self) -> Any:
            raise ServiceUnavailable

    assert lines(Gone()) == ["# TYPE buildflow_delivery_readable gauge", "buildflow_delivery_readable 0"]


def test_samples_of_one_name_stand_together_and_labels_are_quoted() -> None:
    one, other = Sample("a", "gauge", 1, {"x": 'say "no\\"\n'}), Sample("b", "counter", 0.5)
    assert as_text([one, other, one]).decode() == (
        '# TYPE a gauge\na{x="say \\"no\\\\\\"\\n"} 1\na{x="say \\"no\\\\\\"\\n"} 1\n# TYPE b counter\nb 0.5\n'
    )
