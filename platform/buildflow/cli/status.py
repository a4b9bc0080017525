"""`platform status`: what is running, what lags, what failed and why."""

import json
from pathlib import Path
from typing import Any

from buildflow.cli.project import Choice, FileOption, JsonOption, SetOption, StackOption, connected, correct
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
    result = correct(Choice(file, stack, values), as_json=as_json)
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
    from buildflow.providers.redis_client import spoken
    from buildflow.runtime.dead_letters import open_dead_letters

    with spoken():
        state = connections.state()
        keys = sorted(state.scan_iter(f"{connections.namespace}:process:*"))
        processes = [json.loads(value) for value in (state.mget(keys) if keys else []) if value]
    consumers = []
    for consumer in plan.consumers:
        source = connections.source(consumer.source)
        figures = [p["consumers"][consumer.key] for p in processes if consumer.key in p.get("consumers", {})]
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
        "running": bool(processes),
        "ready": bool(processes) and all(p["state"] == "ready" for p in processes),
        "processes": processes,
        "consumers": consumers,
    }
