"""`platform send`: put messages into a source."""

import sys
from pathlib import Path
from typing import Annotated

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
from buildflow.cli.terminal import put, put_json, say
from buildflow.compiler import DEFAULT_FILE
from buildflow.diagnostics import did_you_mean
from buildflow.errors import UnknownName
from buildflow.primitives.base import Role
from buildflow.primitives.messages import encoder
from buildflow.primitives.registry import all_primitives


def send(
    source: Annotated[str, typer.Argument(help="The source, by its key.")],
    messages: Annotated[
        list[str] | None, typer.Argument(help="Messages. Without any, each line of stdin is one.")
    ] = None,
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put messages into a source, running or not, and print their ids. They are durable when it ends.

    Where the source declares the type of its messages, all of them are checked before the first is sent.

    `platform send orders '{"id": 1}'`, or `platform send orders < orders.jsonl`.
    """
    choice = Choice(file, stack, values)
    result = correct(choice, as_json=as_json)
    sources = [r.key for r in result.plan.resources if Role.SOURCE in all_primitives()[r.type].roles]
    if source not in sources:
        raise UnknownName(f'there is no source "{source}"', hint=did_you_mean(source, sources))
    need_applied(result, choice, source)
    if not messages and sys.stdin.isatty():
        say("reading messages, a line each; Ctrl-D ends")
    sys.path.insert(0, str(result.root))  # the type of its messages is imported
    with connected(result) as connections:
        target = connections.source(source)
        encode = encoder(connections.plan.resource(source), connections.plan)
        lines = (line.rstrip(b"\r\n") for line in sys.stdin.buffer)
        bodies = [encode(body) for body in messages or filter(None, lines)]  # all of them, before any is sent
        ids = [target.send(body, {}) for body in bodies]
    if as_json:
        put_json([{"id": id} for id in ids])
        return
    for id in ids:
        put(id)
    say(f"sent {len(ids)} to {source}")
