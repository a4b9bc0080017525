"""Figures in Prometheus' text format: what the gateway counts, and what the workers say of themselves.

Each worker's figures bear its `worker` label, so that one that starts anew is not taken for a fall of the sum.
Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from buildflow.providers.redis_client import spoken
from buildflow.runtime.connections import Connections

log = logging.getLogger("buildflow.gateway")

COUNTED = ("done", "failed", "dead")
SCALED = {"replicas": "processes", "wanted": "processes_wanted", "backlog": "backlog", "rate": "rate"}
"""What a worker's heartbeat says of its pool, and how it is called here."""


@dataclass(frozen=True)
class Sample:
    """One figure."""

    name: str
    kind: Literal["counter", "gauge"]
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def as_text(samples: Iterable[Sample]) -> bytes:
    """Those of one name stand together, under its type."""
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample)
    lines = []
    for name, mine in by_name.items():
        lines.append(f"# TYPE {name} {mine[0].kind}")
        lines += [f"{name}{_labels(sample.labels)} {sample.value:.15g}" for sample in mine]
    return "".join(f"{line}\n" for line in lines).encode()


def _labels(labels: Mapping[str, str]) -> str:
    return f"{{{','.join(f'{k}={_quoted(v)}' for k, v in labels.items())}}}" if labels else ""


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def delivery_samples(connections: Connections) -> list[Sample]:
    """What consumers and pools do. What cannot be read is left out, and `buildflow_delivery_readable` is 0."""
    try:
        samples = [*_backlogs(connections), *_of_workers(heartbeats(connections))]
    except Exception as exc:
        log.warning("the figures of consumers cannot be read: %s", exc)
        return [Sample("buildflow_delivery_readable", "gauge", 0)]
    return [Sample("buildflow_delivery_readable", "gauge", 1), *samples]


def heartbeats(connections: Connections) -> list[dict[str, Any]]:
    """The stack's processes that beat, each as it describes itself."""
    with spoken():
        state = connections.state()
        keys = sorted(state.scan_iter(f"{connections.namespace}:process:*"))
        return [json.loads(value) for value in (state.mget(keys) if keys else []) if value]


def _backlogs(connections: Connections) -> Iterator[Sample]:
    for consumer in connections.plan.consumers:
        counts = connections.source(consumer.source).counts()
        labels = {"consumer": consumer.key}
        yield Sample("buildflow_consumer_backlog", "gauge", counts.backlog, labels)
        yield Sample("buildflow_consumer_in_flight", "gauge", counts.in_flight, labels)


def _of_workers(processes: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
    for process in processes:
        worker = {"worker": f"{process['host']}:{process['pid']}"}
        for key, figures in process.get("consumers", {}).items():
            for name in COUNTED:
                if name in figures:
                    labels = {"consumer": key, **worker}
                    yield Sample(f"buildflow_consumer_{name}_total", "counter", figures[name], labels)
        for name, shown in SCALED.items():
            scaling = process.get("scaling") or {}
            if name in scaling:
                labels = {"pool": process["pool"], **worker}
                yield Sample(f"buildflow_pool_{shown}", "gauge", scaling[name], labels)
