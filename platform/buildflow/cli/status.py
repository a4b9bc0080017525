"""`platform status`: what is running, what lags, what failed and why."""

from pathlib import Path
from typing import Any

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
from buildflow.cli.terminal import put_json, say, styled, table
from buildflow.compiler import DEFAULT_FILE
from buildflow.ir.runtime import RuntimePlan


def status(
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the processes of a stack, whether they are ready, and each consumer's backlog and failures."""
    from buildflow.provision.changes import unapplied
    from buildflow.provision.state import load

    choice = Choice(file, stack, values)
    result = correct(choice, as_json=as_json)
    missing = unapplied(result.graph, load(folder_of(result)))
    if missing:
        say(f"{not_applied(result, missing)}; {styled(choice.apply_command, 'bold')}")
    with connected(result) as connections:
        found = collect(result.plan, connections)
    if as_json:
        put_json(found)
        return
    if found["processes"]:
        columns = ("kind", "pool", "pid", "state", "error")
        table([{k: " ".join(str(p.get(k) or "").split()) for k in columns} for p in found["processes"]])
    else:
        say(f"stack {result.stack} is not running; start it with {styled('platform run', 'bold')}")
    if found["consumers"]:
        say()
        table(found["consumers"])


def collect(plan: RuntimePlan, connections: Any) -> dict[str, Any]:
    """The processes that beat, and each consumer's figures, as data."""
    from buildflow.runtime.dead_letters import open_dead_letters

    running = processes(connections)
    consumers = []
    for consumer in plan.consumers:
        source = connections.source(consumer.source)
        figures = [p["consumers"][consumer.key] for p in running if consumer.key in p.get("consumers", {})]
        consumers.append(
            {
                "consumer": consumer.key,
                "source": consumer.source,
                "backlog": source.backlog(),
                "in_flight": source.in_flight(),
                "done": sum(f["done"] for f in figures),
                "failed": sum(f["failed"] for f in figures),
                "dead_letters": len(open_dead_letters(consumer, connections).all()),
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
