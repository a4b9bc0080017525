"""`platform destroy`: delete what apply created."""

import sys
from pathlib import Path
from typing import Any

from buildflow.cli.apply import YesOption, agree
from buildflow.cli.infrastructure import finishing, infrastructure, progress
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
from buildflow.cli.terminal import put, put_json, say, styled
from buildflow.compiler import DEFAULT_FILE
from buildflow.errors import BuildflowError


def destroy(
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show everything that `apply` created, with what it holds, ask, and delete it.

    A bucket that holds objects is refused unless it declares `force_destroy: true`; a stack that runs is refused.
    """
    from buildflow.provision.apply import clear, refuse_data_loss
    from buildflow.provision.state import locked

    result = correct(Choice(file, stack, values), as_json=as_json)
    folder = folder_of(result)
    with locked(folder, say), connected(result) as connections:
        held = infrastructure(result, connections)
        changes = held.destruction()
        if not changes:
            if as_json:
                put_json(changes_json(changes))
            else:
                say(f"{styled('✓', 'green')} nothing to destroy: stack {result.stack} holds nothing")
            return
        if running := processes(connections):
            raise BuildflowError(f'stack "{result.stack}" is running ({named(running)}); end it first')
        (say if as_json else put)("\n".join([*tree(changes), *_dead_letters(connections)]))
        refuse_data_loss(changes, destroying=True, allow_data_loss=False)
        question = "Would you like to destroy these resources?"
        agree(question, yes=yes, ask=result.declaration.options.require_confirmation)
        with progress() as told, finishing("destroy"):
            held.destroy(changes, told)
        clear(connections.state(), connections.namespace)
        if as_json:
            put_json(changes_json(changes))
        say(f"{styled('✓', 'green')} Resources destroyed.")


def _dead_letters(connections: Any) -> list[str]:
    """What the stack's own store holds for consumers that name no table; it goes with the stack."""
    from buildflow.runtime.dead_letters import open_dead_letters

    own = [c for c in connections.plan.consumers if c.dead_letter is None]
    found = {c.key: open_dead_letters(c, connections).count() for c in own}
    lines = [f"    {styled('DATA LOSS', 'red', 'bold', to=sys.stdout)}: {n} of {key}" for key, n in found.items() if n]
    return ["Dead letters to destroy:", *lines] if lines else []
