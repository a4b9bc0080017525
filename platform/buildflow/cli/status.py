"""`platform status`: what is running, what lags, what failed and why."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from buildflow.cli.project import (
    Choice,
    FileOption,
    JsonOption,
    SetOption,
    StackOption,
    connected,
    correct,
    folder_of,
    not_applied,
    processes,
)
from buildflow.cli.terminal import put, put_json, say, styled
from buildflow.compiler import DEFAULT_FILE
from buildflow.errors import ServiceUnavailable
from buildflow.ir.runtime import RuntimePlan

EVERY = 1.0
"""Seconds between two looks of `--watch`; processes tell of themselves no more often."""


def status(
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again each second, until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the processes of a stack, whether they are ready, and each consumer's backlog, rate and failures.

    `platform status --watch` keeps it on the screen; with `--json`, one line of JSON a second.
    """
    from buildflow.cli.status_view import show, show_again
    from buildflow.provision.changes import unapplied
    from buildflow.provision.state import load

    choice = Choice(file, stack, values)
    result = correct(choice, as_json=as_json)
    missing = unapplied(result.graph, load(folder_of(result)))
    if missing:
        say(f"{not_applied(result, missing)}; {styled(choice.apply_command, 'bold')}")
    with connected(result) as connections:
        if watch:
            looks = _looks(result.plan, connections)
            with contextlib.suppress(KeyboardInterrupt):  # that is how it ends
                _put_lines(looks) if as_json else show_again(looks)
            return
        found = collect(result.plan, connections)
    if as_json:
        put_json(found)
        return
    if not found["processes"]:
        say(f"stack {result.stack} is not running; start it with {styled('platform run', 'bold')}")
    show(found)


def collect(plan: RuntimePlan, connections: Any) -> dict[str, Any]:
    """The processes that beat, and each consumer's figures, as data. `rate` is elements a second, None while nobody
    has measured it."""
    from buildflow.runtime.dead_letters import open_dead_letters

    running = processes(connections)
    consumers = []
    for consumer in plan.consumers:
        counts = connections.source(consumer.source).counts()
        figures = [p["consumers"][consumer.key] for p in running if consumer.key in p.get("consumers", {})]
        rates = [f["rate"] for f in figures if f.get("rate") is not None]
        consumers.append(
            {
                "consumer": consumer.key,
                "source": consumer.source,
                "backlog": counts.backlog,
                "in_flight": counts.in_flight,
                "rate": round(sum(rates), 1) if rates else None,
                "done": sum(f["done"] for f in figures),
                "failed": sum(f["failed"] for f in figures),
                "dead_letters": open_dead_letters(consumer, connections).count(),
                "last_error": next((f["last_error"] for f in figures if f["last_error"]), None),
            }
        )
    return {
        "project": plan.project,
        "stack": plan.stack,
        "running": bool(running),
        "ready": bool(running) and all(p["state"] == "ready" for p in running),
        "processes": running,
        "consumers": consumers,
    }


def _looks(plan: RuntimePlan, connections: Any) -> Iterator[dict[str, Any]]:
    """What `collect` finds, each second. While Redis does not answer, that is all there is to tell."""
    due = time.monotonic()
    nothing = {"project": plan.project, "stack": plan.stack, "running": False, "ready": False}
    while True:
        try:
            yield collect(plan, connections)
        except ServiceUnavailable as exc:
            yield {**nothing, "processes": [], "consumers": [], "error": str(exc)}
        due = max(due + EVERY, time.monotonic())
        time.sleep(due - time.monotonic() if due > time.monotonic() else 0)


def _put_lines(looks: Iterator[dict[str, Any]]) -> None:
    for found in looks:
        put(json.dumps(found, default=str, ensure_ascii=False))
