"""`platform apply`: make the stack what the file declares."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from buildflow.cli.plan import changes_json, tree
from buildflow.cli.project import (
    Choice,
    FileOption,
    JsonOption,
    SetOption,
    StackOption,
    connected,
    correct,
    folder_of,
    named,
    processes,
)
from buildflow.cli.terminal import EXIT_DECLINED, confirm, put, put_json, say, styled
from buildflow.compiler import DEFAULT_FILE, Compilation

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
QUESTION = "Would you like to apply these changes?"


def apply(
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    yes: YesOption = False,
    allow_data_loss: Annotated[
        bool, typer.Option("--allow-data-loss", help="Make changes that lose rows, columns or objects.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show every change, ask, and make them. A second `apply` finds nothing to do."""
    result = correct(Choice(file, stack, values), as_json=as_json)
    apply_changes(result, yes=yes, allow_data_loss=allow_data_loss, as_json=as_json)


def apply_changes(
    result: Compilation, *, yes: bool, allow_data_loss: bool = False, as_json: bool = False, quiet: bool = False
) -> None:
    """The work of `apply`, also of `run --apply`. Everything between the look and the change is under the lock."""
    from buildflow.provision import apply as provision
    from buildflow.provision.changes import diff
    from buildflow.provision.state import load, locked

    folder = folder_of(result)
    with locked(folder, say), connected(result) as connections:
        session = connections.session(result.plan.provider)
        changes = diff(result.graph, load(folder), session)
        if not changes:
            if as_json:
                put_json(changes_json(changes))
            elif not quiet:
                say(f"{styled('✓', 'green')} nothing to do: stack {result.stack} is as declared")
            return
        (say if quiet or as_json else put)("\n".join(tree(changes)))
        provision.refuse_data_loss(changes, destroying=False, allow_data_loss=allow_data_loss)
        agree(QUESTION, yes=yes, ask=result.declaration.options.require_confirmation)
        provision.apply(changes, folder, session, lambda c: say(f"  {_PAST[c.verb]} {c.label} {c.id}"))
        if as_json:
            put_json(changes_json(changes))
        say(f"{styled('✓', 'green')} Changes applied.")
        if running := processes(connections):
            say(f"What runs ({named(running)}) keeps its old plan until it is started again.")


_PAST = {"create": "created", "update": "updated", "replace": "replaced", "delete": "deleted"}


def agree(question: str, *, yes: bool, ask: bool) -> None:
    """Ask, unless told not to; a no ends the command with 4."""
    if yes:
        return
    if not ask:
        say("Confirmation disabled.")
        return
    if not confirm(question):
        say(f"{styled('✗', 'red')} Changes rejected.")
        sys.exit(EXIT_DECLINED)
