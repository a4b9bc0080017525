"""What `platform status` found, for a reader: narrow enough for 80 columns."""

import sys
import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from buildflow.spec.units import in_words

_STYLES = {"ready": "green", "failed": "bold red"}
_LONGEST_ERROR = 300


def show(found: dict[str, Any]) -> None:
    _console().print(_view(found))


def show_again(looks: Iterable[dict[str, Any]]) -> None:
    """Each in the place of the one before; where stdout is no terminal, below it."""
    console = _console()
    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        for found in looks:
            view = Group(_headline(found), Text(), _view(found))
            if console.is_terminal:
                live.update(view, refresh=True)
            else:
                console.print(view)


def _console() -> Console:
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160, highlight=False)


def _headline(found: dict[str, Any]) -> Text:
    state = "ready" if found["ready"] else "not ready" if found["running"] else found.get("error", "not running")
    style = "green" if found["ready"] else "yellow" if found["running"] else "bold red"
    return Text.assemble(
        (found["project"], "bold"), " on stack ", (found["stack"], "bold"), ": ", (state, style),
        (f"   {time.strftime('%H:%M:%S')}   Ctrl-C ends", "dim"),
    )  # fmt: skip


def _view(found: dict[str, Any]) -> Group:
    """The processes, the consumers, and below them what went wrong last."""
    processes, consumers = found["processes"], found["consumers"]
    troubles = [(f"{p['kind']} {p['pid']}", p["error"]) for p in processes if p.get("error")]
    troubles += [(c["consumer"], c["last_error"]) for c in consumers if c["last_error"]]
    parts: list[Any] = []
    for part in (
        _processes(processes) if processes else None,
        _consumers(consumers) if consumers else None,
        _troubles(troubles) if troubles else None,
    ):
        if part is not None:
            parts += [Text(), part] if parts else [part]
    return Group(*parts)


def _processes(processes: list[dict[str, Any]]) -> Table:
    hosts = len({p["host"] for p in processes}) > 1
    shown = _table(["process", "pool", "pid", *(["host"] if hosts else []), "state", "for", ""])
    for p in processes:
        host = [Text(p["host"])] if hosts else []
        state = Text(p["state"], _STYLES.get(p["state"], "yellow"))
        shown.add_row(p["kind"], p.get("pool") or "", str(p["pid"]), *host, state, _age(p), Text(_busy(p), "dim"))
    return shown


def _age(process: dict[str, Any]) -> str:
    seconds = max(0, int(time.time() - process["since"]))
    unit = next(size for size in (86400, 3600, 60, 1) if seconds >= size or size == 1)
    return in_words(seconds // unit * unit) if seconds else "0s"


def _busy(process: dict[str, Any]) -> str:
    """What a process says of its own work."""
    if "children" in process:
        ready = sum(child["state"] == "ready" for child in process["children"])
        return f"{ready} of {len(process['children'])} children ready"
    if "requests" in process:
        return f"{process['requests']:,} requests, {process['active']} now"
    return ""


def _consumers(consumers: list[dict[str, Any]]) -> Table:
    figures = ("backlog", "in flight", "rate", "done", "failed", "dead")
    shown = _table(["consumer ← source", *figures], right=figures)
    for c in consumers:
        rate = "–" if c["rate"] is None else f"{c['rate']:,.0f}/s" if c["rate"] >= 10 else f"{c['rate']:.1f}/s"
        name = Text.assemble((c["consumer"], "bold"), " ← ", c["source"])
        shown.add_row(
            name, _number(c["backlog"]), _number(c["in_flight"]), rate,
            _number(c["done"]), _number(c["failed"], "yellow"), _number(c["dead_letters"], "bold red"),
        )  # fmt: skip
    return shown


def _number(value: int, style: str = "") -> Text:
    return Text(f"{value:,}", style if value else "dim")


def _troubles(troubles: list[tuple[str, str]]) -> Table:
    shown = _table(["last error of", ""])
    for who, error in troubles:
        words = " ".join(error.split())
        shown.add_row(
            Text(who), Text(words if len(words) <= _LONGEST_ERROR else f"{words[: _LONGEST_ERROR - 1]}…", "red")
        )
    return shown


def _table(columns: Iterable[str], right: Iterable[str] = ()) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return made
