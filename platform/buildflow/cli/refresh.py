"""`platform refresh` and `platform cancel`: what became of a stack outside of the platform."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildflow.cli.infrastructure import infrastructure
from buildflow.cli.project import Choice, FileOption, JsonOption, SetOption, StackOption, connected, correct, folder_of
from buildflow.cli.terminal import put, put_json, say, styled
from buildflow.compiler import DEFAULT_FILE

if TYPE_CHECKING:
    from buildflow.provision.stack import Drift


def refresh(
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at what there is, show what others changed or deleted, and record it. Changes nothing itself.

    `platform plan` says afterwards what `apply` would bring back to what is declared.
    """
    from buildflow.provision.state import locked

    choice = Choice(file, stack, values)
    result = correct(choice, as_json=as_json)
    with locked(folder_of(result), say), connected(result) as connections:
        found = infrastructure(result, connections).refresh()
    if as_json:
        put_json({"project": result.plan.project, "stack": result.stack, "drift": [_json(d) for d in found]})
    elif found:
        put("\n".join(_lines(found)))
        say(f"recorded; {styled('platform plan', 'bold')} says what apply would bring back")
    else:
        say(f"{styled('✓', 'green')} no drift: stack {result.stack} is as it was recorded")


def cancel(file: FileOption = Path(DEFAULT_FILE), stack: StackOption = None, values: SetOption = None) -> None:
    """Break the lock that an ended `apply` left on a cloud's state. What it had made stays; the next one goes on."""
    result = correct(Choice(file, stack, values))
    with connected(result) as connections:
        infrastructure(result, connections).unlock()
    say(f"{styled('✓', 'green')} the state of stack {result.stack} is unlocked")


def _lines(found: "list[Drift]") -> list[str]:
    lines = ["Changed outside of the platform:"]
    for drift in found:
        lines.append(f"{'└' if drift is found[-1] else '├'}── {drift.label} {drift.id}")
        bar = "    " if drift is found[-1] else "│   "
        lines += [f"{bar}{words}" for words in drift.fields or ("is gone",)]
    return lines


def _json(drift: "Drift") -> dict[str, Any]:
    return {
        "key": drift.key,
        "type": drift.label,
        "id": drift.id,
        "gone": not drift.fields,
        "fields": list(drift.fields),
    }
