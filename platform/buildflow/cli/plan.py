"""`platform plan`: what apply would do."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from buildflow.cli.guarantees import bindings, sinks_of
from buildflow.cli.infrastructure import infrastructure
from buildflow.cli.project import Choice, FileOption, JsonOption, SetOption, StackOption, connected, correct
from buildflow.cli.terminal import EXIT_CHANGES, put, put_json, say, styled
from buildflow.compiler import DEFAULT_FILE, Compilation
from buildflow.ir.changes import ChangeSet, ResourceChange
from buildflow.ir.graph import Resource
from buildflow.ir.runtime import RuntimePlan

HEADINGS = {"create": "create", "update": "update", "replace": "replace", "delete": "destroy"}


def plan(
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    as_json: JsonOption = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with 3 if there are changes.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the plan to a file, for `platform apply FILE`.")
    ] = None,
) -> None:
    """Show what `apply` would do, and what it would do to people's data. Changes nothing."""
    from buildflow.cli.plan_file import write_plan

    choice = Choice(file, stack, values)
    result = correct(choice, as_json=as_json)
    changes = changes_of(result, talking=not as_json)
    if as_json:
        put_json({**changes_json(changes), "bindings": bindings_json(result.plan)})
    else:
        if changes:
            put("\n".join(change_lines(changes)))
        else:
            say(f"{styled('✓', 'green')} nothing to do: stack {result.stack} is as declared")
        if lines := binding_lines(result.plan):
            put("\n".join(["", *lines] if changes else lines))
    if out is not None:
        write_plan(out, choice, result, changes)
        command = " ".join([f"platform apply {out}", *(f"--set var.{name}=..." for name in choice.variables)])
        say(f"{styled('✓', 'green')} the plan is in {out}; make it with {styled(command, 'bold')}")
    if exit_code and changes:
        sys.exit(EXIT_CHANGES)


def changes_of(result: Compilation, *, talking: bool) -> ChangeSet:
    """What `apply` would do. Without the cloud's engine the declared resources are shown before that is said."""
    from buildflow.provision.cloud.engine import PulumiMissing

    with connected(result) as connections:
        try:
            return infrastructure(result, connections).changes()
        except PulumiMissing:
            if talking:
                put("\n".join(["Primitives declared:", *_types([_declared(r) for r in result.graph.resources])]))
            raise


def _declared(resource: Resource) -> ResourceChange:
    return ResourceChange(verb="create", key=resource.key, label=resource.label, id=resource.id, new=resource)


def change_lines(changes: ChangeSet) -> list[str]:
    """Every change in words: of primitives, of permissions, of what is bound to them."""
    lines = tree(changes)
    for heading, found in (
        ("Permissions to change:", changes.permissions),
        ("Bindings that change:", changes.bindings),
    ):
        if found:
            lines += [heading, *(f"{'└' if words is found[-1] else '├'}── {words}" for words in found)]
    return lines


def changes_json(changes: ChangeSet) -> dict[str, Any]:
    return {
        "project": changes.project,
        "stack": changes.stack,
        "changes": [
            {"action": HEADINGS[c.verb], "key": c.key, "type": c.label, "id": c.id, "fields": list(c.fields),
             "data_loss": c.loses or None}
            for c in changes.changes
        ],
        "permissions": list(changes.permissions),
        "binding_changes": list(changes.bindings),
    }  # fmt: skip


def bindings_json(plan: RuntimePlan) -> list[dict[str, Any]]:
    return [
        {"consumer": c.key, "source": c.source, "handler": c.handler.function, "sinks": sinks_of(c), "guarantee": words}
        for c, words in bindings(plan)
    ]


def binding_lines(plan: RuntimePlan) -> list[str]:
    """What each consumer does with what it takes, and what is promised of it."""
    found = [
        f"{c.key}: {' -> '.join([c.source, c.handler.function, ', '.join(sinks_of(c))]).removesuffix(' -> ')}, {words}"
        for c, words in bindings(plan)
    ]
    return ["Bindings:", *(f"{'└' if line is found[-1] else '├'}── {line}" for line in found)] if found else []


def tree(changes: ChangeSet) -> list[str]:
    """The walkthrough's trees: a heading for each kind of change, a type, its ids under it."""
    lines: list[str] = []
    for verb, heading in HEADINGS.items():
        found = [c for c in changes.changes if c.verb == verb]
        if found:
            lines += [f"Primitives to {heading}:", *_types(found)]
    return lines


def _types(changes: list[ResourceChange]) -> list[str]:
    lines: list[str] = []
    labels = list(dict.fromkeys(c.label for c in changes))
    for label in labels:
        last_type = label == labels[-1]
        lines.append(f"{'└' if last_type else '├'}── {label}")
        bar = "    " if last_type else "│   "
        for change in (c for c in changes if c.label == label):
            lines.append(f"{bar}└── {change.id}")  # the original draws every item like a last one
            details = list(change.fields)
            if not change.managed:
                details.append("not managed: it stays as it is")
            if change.loses:
                details.append(f"{styled('DATA LOSS', 'red', 'bold', to=sys.stdout)}: {change.loses}")
            lines += [f"{bar}    {detail}" for detail in details]
    return lines
