"""Every promise of speed and size, measured: `make bench`.

    python -m benchmarks [--json] [--only WORD]

It never fails on a figure: a machine that is busy is no mistake. Each figure is a median of several runs, and what
is compared runs in turns, so that other load meets both sides.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import (
    aws,
    aws_plan,
    check_command,
    collectors,
    delivery,
    gateway_routes,
    large_project,
    running_app,
    tables,
)
from benchmarks.figures import Failure, Figure, machine

ROOT = Path(__file__).parent.parent

MEASURES: dict[str, Callable[[], list[Figure]]] = {
    "platform check": check_command.measure,
    "platform check, large": large_project.measure,
    "platform run": running_app.measure,
    "gateway routes": gateway_routes.measure,
    "collectors": collectors.measure,
    "DuckDB": tables.measure,
    "delivery": delivery.measure,
    "SQS": aws.measure,
    "AWS plan": aws_plan.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--only", default="", help=f"only measures whose name holds this: {', '.join(MEASURES)}")
    asked = parser.parse_args()
    os.chdir(ROOT)
    facts = machine()
    talk = Console(stderr=True)
    found: list[Figure | Failure] = []
    for name, measure in MEASURES.items():
        if asked.only.lower() in name.lower():
            talk.print(f"measuring {name} ...", style="dim")
            try:
                found += measure()
            except Exception as exc:  # noqa: BLE001 - one that cannot be taken hides none of the others
                found.append(Failure(name, f"{type(exc).__name__}: {exc}"))
    if asked.json:
        print(json.dumps({"machine": facts, "figures": [f.to_json() for f in found]}, indent=2))
    else:
        show(found, facts)


def show(found: list[Figure | Failure], facts: dict[str, object]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    table = Table(show_edge=False, header_style="bold", pad_edge=False)
    for name, justify in (("what", "left"), ("figure", "right"), ("target", "right"), ("", "left"), ("note", "left")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for figure in found:
        if isinstance(figure, Failure):
            table.add_row(figure.name, "", "", "[red]not measured[/]", figure.reason)
            continue
        sign = "≤" if figure.better == "less" else "≥"
        target = "" if figure.target is None else f"{sign} {figure.target:g} {figure.unit}"
        verdict = {None: "", True: "[green]ok[/]", False: "[red]missed[/]"}[figure.ok]
        table.add_row(figure.name, f"{figure.value:,.4g} {figure.unit}", target, verdict, figure.note)
    console.print(table)
    console.print()
    console.print(f"on {facts['cores']} cores, {facts['cpu']}, load {facts['load']}, Python {facts['python']}")


if __name__ == "__main__":
    main()
