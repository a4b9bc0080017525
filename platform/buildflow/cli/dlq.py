"""`platform dlq`: what was given up, why, and another chance for it."""

import json
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
    need_applied,
)
from buildflow.cli.terminal import put, put_json, say, styled, table
from buildflow.compiler import DEFAULT_FILE, Compilation
from buildflow.diagnostics import did_you_mean
from buildflow.errors import UnknownName
from buildflow.types import DeadLetter

app = typer.Typer(help="Dead letters: what was given up, why, and another chance for it.", no_args_is_help=True)

ConsumerArgument = Annotated[str, typer.Argument(help="The consumer, by its key.")]
IdArgument = Annotated[str, typer.Argument(help="The element's id, or its beginning.")]


@app.command("ls")
def ls(
    consumer: Annotated[str | None, typer.Argument(help="The consumer; without it, all.")] = None,
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the dead letters, oldest first."""
    choice = Choice(file, stack, values)
    result = correct(choice, as_json=as_json)
    keys = [_known(consumer, result, choice)] if consumer else [c.key for c in result.plan.consumers]
    with connected(result) as connections:
        letters = [letter for key in keys for letter in _letters(key, connections)]
    if as_json:
        put_json([letter_json(letter) for letter in letters])
    elif letters:
        table([{"id": x.id, "consumer": x.consumer, "dead_at": f"{x.dead_at:%Y-%m-%d %H:%M:%S}",
                "attempts": x.attempts, "error": x.error} for x in letters])  # fmt: skip
    else:
        say(f"{styled('✓', 'green')} no dead letters")


@app.command("show")
def show(
    consumer: ConsumerArgument,
    id: IdArgument,
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter: its payload as it came, its headers, and the traceback."""
    choice = Choice(file, stack, values)
    result = correct(choice, as_json=as_json)
    with connected(result) as connections:
        letter = _one(id, _letters(_known(consumer, result, choice), connections))
    if as_json:
        put_json(letter_json(letter))
        return
    for name, value in letter_json(letter).items():
        if name == "traceback":
            continue
        put(f"{styled(name, 'bold')}: {value}")
    put(f"\n{letter.traceback.rstrip()}")


@app.command("replay")
def replay(
    consumer: ConsumerArgument,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids; without any, all.")] = None,
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send dead letters to their source again, under their own ids."""
    from buildflow.runtime.dead_letters import replay as send_again

    choice = Choice(file, stack, values)
    result = correct(choice, as_json=as_json)
    with connected(result) as connections:
        plan = connections.plan.consumer(_known(consumer, result, choice))
        letters = _letters(plan.key, connections)
        chosen = [_one(id, letters) for id in ids] if ids else letters
        count = send_again(plan, connections, chosen)
    if as_json:
        put_json([{"id": letter.id} for letter in chosen])
    say(f"sent {count} again to {plan.source}")


def _known(consumer: str, result: Compilation, choice: Choice) -> str:
    """The key of a consumer that this stack has, and whose source and dead letters it holds."""
    keys = [c.key for c in result.plan.consumers]
    if consumer not in keys:
        raise UnknownName(f'there is no consumer "{consumer}"', hint=did_you_mean(consumer, keys))
    plan = result.plan.consumer(consumer)
    need_applied(result, choice, plan.source, plan.dead_letter)
    return consumer


def _letters(consumer: str, connections: Any) -> list[DeadLetter]:
    from buildflow.runtime.dead_letters import open_dead_letters

    return open_dead_letters(connections.plan.consumer(consumer), connections).all()


def _one(id: str, letters: list[DeadLetter]) -> DeadLetter:
    exact = [letter for letter in letters if letter.id == id]
    found = exact or [letter for letter in letters if letter.id.startswith(id)]
    if len(found) != 1:
        words = f'no dead letter begins with "{id}"' if not found else f'"{id}" is the beginning of {len(found)} ids'
        raise UnknownName(words, hint="platform dlq ls shows them")
    return found[0]


def letter_json(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "consumer": letter.consumer,
        "source": letter.source,
        "error": letter.error,
        "attempts": letter.attempts,
        "sent_at": letter.sent_at.isoformat(),
        "dead_at": letter.dead_at.isoformat(),
        "headers": json.loads(letter.headers),
        "payload": letter.payload.decode("utf-8", "backslashreplace"),
        "traceback": letter.traceback,
    }
