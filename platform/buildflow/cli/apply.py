"""`platform apply`: make the stack what the file declares."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from buildflow.cli.infrastructure import finishing, infrastructure, progress
from buildflow.cli.plan import change_lines, changes_json
from buildflow.cli.plan_file import PlanFile, read_plan
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
    planned: Annotated[
        Path | None, typer.Argument(metavar="[PLAN]", help="A file of `platform plan --out`: exactly that, unasked.")
    ] = None,
) -> None:
    """Show every change, ask, and make them. A second `apply` finds nothing to do.

    `platform apply PLAN` makes the changes of that file and no others: it refuses when anything has changed since.
    A plan keeps no values; those of `--set` are given again.
    """
    if planned is not None:
        if stack or file != Path(DEFAULT_FILE):
            raise typer.BadParameter("a plan says for which file and stack it was made; leave these out")
        expected = read_plan(planned)
        result = correct(expected.choice(values), as_json=as_json)
        expected.refuse_other(result)
        apply_changes(result, yes=True, allow_data_loss=allow_data_loss, as_json=as_json, expected=expected)
        return
    result = correct(Choice(file, stack, values), as_json=as_json)
    apply_changes(result, yes=yes, allow_data_loss=allow_data_loss, as_json=as_json)


def apply_changes(
    result: Compilation,
    *,
    yes: bool,
    allow_data_loss: bool = False,
    as_json: bool = False,
    quiet: bool = False,
    expected: PlanFile | None = None,
) -> None:
    """The work of `apply`, also of `run --apply`. Everything between the look and the change is under the lock.
    Changes that are not those of the `expected` plan are refused."""
    from buildflow.provision.apply import refuse_data_loss
    from buildflow.provision.state import locked

    folder = folder_of(result)
    with locked(folder, say), connected(result) as connections:
        stack = infrastructure(result, connections)
        changes = stack.changes(to_apply=True)
        if expected is not None:
            expected.refuse_other_changes(changes)
        if not changes:
            stack.adopt()
            if as_json:
                put_json(changes_json(changes))
            elif not quiet:
                say(f"{styled('✓', 'green')} nothing to do: stack {result.stack} is as declared")
            return
        (say if quiet or as_json else put)("\n".join(change_lines(changes)))
        refuse_data_loss(changes, destroying=False, allow_data_loss=allow_data_loss)
        agree(QUESTION, yes=yes, ask=result.declaration.options.require_confirmation)
        with progress() as told, finishing("apply"):
            stack.apply(changes, told)
        if as_json:
            put_json(changes_json(changes))
        say(f"{styled('✓', 'green')} Changes applied.")
        if running := processes(connections):
            say(f"What runs ({named(running)}) keeps its old plan until it is started again.")


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
