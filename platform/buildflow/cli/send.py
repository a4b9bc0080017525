"""`platform send`: put messages into a source, or publish them to a topic."""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from buildflow.cli.attributes import AttributeOption, as_mapping
from buildflow.cli.incoming import Incoming, incoming
from buildflow.cli.long_output import put_list
from buildflow.cli.progress import RateOption, bar, interruptible
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
from buildflow.cli.terminal import put, say
from buildflow.compiler import DEFAULT_FILE
from buildflow.diagnostics import did_you_mean
from buildflow.errors import UnknownName
from buildflow.primitives.base import Role
from buildflow.primitives.messages import encoder
from buildflow.primitives.registry import all_primitives

if TYPE_CHECKING:
    from buildflow.runtime.sending import Sender


def send(
    source: Annotated[str, typer.Argument(help="The source or the topic, by its key.")],
    messages: Annotated[
        list[str] | None, typer.Argument(help="Messages. Without any, each line of stdin is one.")
    ] = None,
    origin: Annotated[Path | None, typer.Option("--from", help="A file: each line is a message.")] = None,
    rate: RateOption = None,
    pairs: AttributeOption = None,
    id: Annotated[str | None, typer.Option("--id", help="The id of one message, instead of a new one.")] = None,
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put messages into a source, running or not, and print their ids. They are durable when they are printed.

    A topic gives them to each of its subscriptions whose filter they pass. Where the type of the messages is declared,
    all of them are checked before the first is sent.

    `platform send orders '{"id": 1}' --attribute kind=vip`, `platform send orders --from orders.jsonl --rate 100/s`,
    or `tail -f orders.jsonl | platform send orders`.
    """
    from buildflow.runtime.sending import Sender

    attributes = as_mapping(pairs)
    if id is not None and len(messages or []) != 1:
        raise typer.BadParameter("it is the id of one message: give that as an argument", param_hint="--id")
    if messages and origin is not None:
        raise typer.BadParameter("messages are given twice; leave one out", param_hint="--from")
    choice = Choice(file, stack, values)
    result = correct(choice, as_json=as_json)
    sources = [r.key for r in result.plan.resources if Role.SOURCE in all_primitives()[r.type].roles]
    topics = [r.key for r in result.plan.resources if r.type == "topic"]
    if source not in (*sources, *topics):
        raise UnknownName(f'there is no source "{source}"', hint=did_you_mean(source, [*sources, *topics]))
    need_applied(result, choice, source)
    sys.path.insert(0, str(result.root))  # the type of its messages is imported
    with connected(result) as connections:
        taker = connections.handle(source).sender if source in topics else connections.source(source)
        sender = Sender(taker, rate)
        check = encoder(connections.plan.resource(source), connections.plan)
        with (
            interruptible(lambda: f"sent {sender.sent:,} to {source}"),
            incoming(messages, origin, check) as given,
            bar(f"sending to {source}", given.count) as advance,
        ):
            ids = _sent(sender, given, attributes, id, advance)
            if as_json:
                put_list({"id": one} for one in ids)
            else:
                for one in ids:
                    put(one)
    say(f"sent {sender.sent:,} to {source}")


def _sent(
    sender: "Sender", given: Incoming, attributes: Mapping[str, str], id: str | None, advance: Callable[[int], None]
) -> Iterator[str]:
    """Send, and give the ids of what is durable."""
    for part in given.parts:
        for group in sender.groups(part, len):
            yield from sender.send([(body, attributes, id) for body in group])
            advance(len(group))
