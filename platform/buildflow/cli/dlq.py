"""`platform dlq`: what was given up, why, and another chance for it."""

import contextlib
import getpass
import itertools
import json
import os
import re
import socket
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from buildflow.cli.apply import YesOption
from buildflow.cli.long_output import put_list, written
from buildflow.cli.progress import RateOption, bar, interruptible
from buildflow.cli.project import (
    Choice,
    FileOption,
    JsonOption,
    SetOption,
    StackOption,
    connected,
    correct,
    folder_of,
    need_applied,
    not_applied,
)
from buildflow.cli.terminal import EXIT_DECLINED, confirm, put, put_json, say, styled, table
from buildflow.compiler import DEFAULT_FILE, Compilation
from buildflow.diagnostics import did_you_mean
from buildflow.errors import UnknownName
from buildflow.ir.runtime import ConsumerPlan

if TYPE_CHECKING:
    from buildflow.runtime.connections import Connections
    from buildflow.runtime.dead_letters import DeadLetters
    from buildflow.types import DeadLetter

app = typer.Typer(help="Dead letters: what was given up, why, and another chance for it.", no_args_is_help=True)

ConsumerArgument = Annotated[str, typer.Argument(help="The consumer, by its key.")]
EachConsumerArgument = Annotated[str | None, typer.Argument(help="The consumer; without it, all.")]
IdArgument = Annotated[str, typer.Argument(help="The element's id, or its beginning.")]
IdsArgument = Annotated[list[str] | None, typer.Argument(help="Ids, or their beginnings; without any, all.")]
ErrorOption = Annotated[
    str | None, typer.Option("--error", "-e", help="Those of one group: its error as `ls` shows it, or its beginning.")
]


@app.command("ls")
def ls(
    consumer: EachConsumerArgument = None,
    all: Annotated[bool, typer.Option("--all", "-a", help="Each letter, oldest first, not their groups.")] = False,
    replayed: Annotated[bool, typer.Option("--replayed", help="What was replayed: when, by whom, edited.")] = False,
    error: ErrorOption = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Letters (or replays) at most; each is listed.")
    ] = None,
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the dead letters by their errors, the most frequent first; with `--all`, each of them.

    `platform dlq ls`, `platform dlq ls save --all --error LookupError`, `platform dlq ls --replayed`.
    """
    from buildflow.cli import letters as form

    with _stores(consumer, file, stack, values, as_json) as (stores, connections):
        if replayed:
            _list_replayed(stores, connections, limit, as_json)
        elif all or error is not None or limit is not None:
            found = (letter for store in stores.values() for letter in form.chosen(store, [], error))
            _list_each(itertools.islice(found, limit), as_json)
        else:
            groups = form.grouped(x for store in stores.values() for x in store.scan())
            if as_json:
                put_json([form.group_json(group) for group in groups])
            else:
                _show_table([form.group_row(group) for group in groups], "no dead letters", "error")


@app.command("show")
def show(
    consumer: ConsumerArgument,
    id: IdArgument,
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter: its payload as it came, its headers, attempts and times, the traceback, its replays."""
    from buildflow.cli import letters as form
    from buildflow.runtime.replays import Replays

    with _store(consumer, file, stack, values, as_json) as (plan, store, connections):
        letter = form.one(store, id)
        replays = Replays(plan, connections).of(letter)
    shown = form.letter_json(letter)
    if as_json:
        put_json({**shown, "replays": [replay.__dict__ for replay in replays]})
        return
    traceback = shown.pop("traceback")
    for name, value in shown.items():
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
        put(f"{styled(name, 'bold', to=sys.stdout)}: {text}")
    for replay in replays:
        put(f"{styled('replayed', 'bold', to=sys.stdout)}: {form.in_sentence(replay)}")
    put(f"\n{traceback.rstrip()}")


@app.command("replay")
def replay(
    consumer: ConsumerArgument,
    ids: IdsArgument = None,
    error: ErrorOption = None,
    edit: Annotated[bool, typer.Option("--edit", help="Open one letter's payload in $EDITOR, and send that.")] = False,
    rate: RateOption = None,
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send dead letters to their source again, under their own ids, oldest first. Every replay is recorded.

    `platform dlq replay save`, `platform dlq replay save 3f2a --edit`, `platform dlq replay save --error LookupError
    --rate 10/s`.
    """
    from buildflow.cli import letters as form
    from buildflow.runtime.replays import replay as send_again
    from buildflow.runtime.sending import Sender

    _refuse_ids_and_error(ids, error)
    if edit and len(ids or []) != 1:
        raise typer.BadParameter("one letter is edited: give its id", param_hint="--edit")
    with _store(consumer, file, stack, values, as_json) as (plan, store, connections):
        letters = form.chosen(store, ids or [], error)
        payload = None
        if edit:
            letter = next(letters)
            payload = _edited(letter, plan, connections)
            if payload is None:
                say("the payload is as it was; nothing was sent")
                if as_json:
                    put_json([])
                return
            letters = iter([letter])
        sender = Sender(connections.source(plan.source), rate)
        total = len(ids) if ids else None if error is not None else store.count()
        done: list[str] = []
        with (
            interruptible(lambda: f"sent {sender.sent:,} again to {plan.source}; the others wait"),
            bar(f"sending to {plan.source}", total) as advance,
        ):
            for group in send_again(plan, connections, letters, sender, by=_who(), payload=payload):
                advance(len(group))
                if as_json:
                    done += [letter.id for letter in group]
    _refuse_none(sender.sent, consumer, error)
    if as_json:
        put_json([{"id": id} for id in done])
    say(f"sent {sender.sent:,} again to {plan.source}")


@app.command("drop")
def drop(
    consumer: ConsumerArgument,
    ids: IdsArgument = None,
    error: ErrorOption = None,
    yes: YesOption = False,
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give dead letters up for good. It asks first. In a `dead_letter` table their rows stay, as history.

    `platform dlq drop save 3f2a`, `platform dlq drop save --error Undecodable`, `platform dlq drop save --yes`.
    """
    from buildflow.cli import letters as form
    from buildflow.runtime.dead_letters import name_of

    _refuse_ids_and_error(ids, error)
    with _store(consumer, file, stack, values, as_json) as (plan, store, _):
        names = [name_of(letter) for letter in form.chosen(store, ids or [], error)]
        _refuse_none(len(names), consumer, error)
        if names and not yes and not confirm(f"Drop {_counted(len(names))} of {consumer}? {_fate(plan)}"):
            say(f"{styled('✗', 'red')} nothing was dropped")
            sys.exit(EXIT_DECLINED)
        store.forget(names)
    if as_json:
        put_json({"dropped": len(names)})
    say(f"dropped {_counted(len(names))} of {consumer}")


@app.command("export")
def export(
    consumer: EachConsumerArgument = None,
    ids: IdsArgument = None,
    error: ErrorOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file instead of stdout.")] = None,
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
) -> None:
    """Write dead letters as JSON lines, oldest first: each as `show --json` gives it.

    `payload` is text where it is UTF-8, else base64; `payload_encoding` says which.

    `platform dlq export save > letters.jsonl`, `platform dlq export --out letters.jsonl`.
    """
    from buildflow.cli import letters as form

    _refuse_ids_and_error(ids, error)
    with _stores(consumer, file, stack, values, False) as (stores, _):
        count = 0
        with written(out) as write:
            for store in stores.values():
                for letter in form.chosen(store, ids or [], error):
                    write(json.dumps(form.letter_json(letter), ensure_ascii=False) + "\n")
                    count += 1
    say(f"exported {_counted(count)}{f' to {out}' if out else ''}")


# which letters


@contextlib.contextmanager
def _stores(
    consumer: str | None, file: Path, stack: str | None, values: list[str] | None, as_json: bool
) -> Iterator[tuple[dict[str, "DeadLetters"], "Connections"]]:
    """The stores of one consumer or of all, by the consumer's key. What a source keeps of its own is taken in where the
    stack has that source."""
    from buildflow.provision.state import load
    from buildflow.runtime.dead_letters import gather, open_dead_letters

    choice = Choice(file, stack, values)
    result = correct(choice, as_json=as_json)
    plans = [_known(consumer, result, choice)] if consumer else result.plan.consumers
    held = load(folder_of(result)).resources
    if missing := [plan.source for plan in plans if plan.source not in held]:
        say(f"{not_applied(result, missing)}; {styled(choice.apply_command, 'bold')}")
    with connected(result) as connections:
        for plan in plans:
            if plan.source in held:
                gather(plan, connections)
        yield {plan.key: open_dead_letters(plan, connections) for plan in plans}, connections


@contextlib.contextmanager
def _store(
    consumer: str, file: Path, stack: str | None, values: list[str] | None, as_json: bool
) -> Iterator[tuple[ConsumerPlan, "DeadLetters", "Connections"]]:
    with _stores(consumer, file, stack, values, as_json) as (stores, connections):
        yield connections.plan.consumer(consumer), stores[consumer], connections


def _known(consumer: str, result: Compilation, choice: Choice) -> ConsumerPlan:
    """A consumer that this stack has, and whose source and dead letters it holds."""
    keys = [c.key for c in result.plan.consumers]
    if consumer not in keys:
        hint = _as_id(consumer, result) or did_you_mean(consumer, keys)
        raise UnknownName(f'there is no consumer "{consumer}"', hint=hint)
    plan = result.plan.consumer(consumer)
    need_applied(result, choice, plan.source, plan.dead_letter)
    return plan


def _as_id(word: str, result: Compilation) -> str:
    """A hint for whoever gave an id without its consumer; empty where the word is no dead letter's."""
    from buildflow.runtime.dead_letters import open_dead_letters

    if not re.fullmatch(r"[0-9a-f][0-9a-f-]{3,}", word):
        return ""
    with connected(result) as connections:
        for plan in result.plan.consumers:
            if open_dead_letters(plan, connections).begun(word):
                return f"a dead letter's id stands behind its consumer: {plan.key} {word}"
    return ""


def _refuse_ids_and_error(ids: list[str] | None, error: str | None) -> None:
    if ids and error is not None:
        raise typer.BadParameter("ids and --error choose in two ways; leave one out", param_hint="--error")


def _refuse_none(count: int, consumer: str, error: str | None) -> None:
    """A group was named that there is not."""
    if error is not None and not count:
        words = f'no dead letter of "{consumer}" has an error that begins with "{error}"'
        raise UnknownName(words, hint=f"platform dlq ls {consumer}")


def _edited(letter: "DeadLetter", plan: ConsumerPlan, connections: "Connections") -> bytes | None:
    from buildflow.cli.editing import edited
    from buildflow.primitives.messages import encoder

    sys.path.insert(0, str(connections.root))  # the type of the source's messages is imported
    return edited(letter.payload, encoder(connections.plan.resource(plan.source), connections.plan))


# in words


def _list_each(found: Iterable["DeadLetter"], as_json: bool) -> None:
    from buildflow.cli import letters as form

    if as_json:
        put_list(form.letter_json(letter) for letter in found)
        return
    rows = [form.letter_row(letter) for letter in found]
    length = form.tell_apart(row["id"] for row in rows)
    _show_table([{**row, "id": row["id"][:length]} for row in rows], "no dead letters", "error")


def _list_replayed(stores: Iterable[str], connections: "Connections", limit: int | None, as_json: bool) -> None:
    from buildflow.cli import letters as form
    from buildflow.runtime.replays import Replays

    found = [(key, replay) for key in stores for replay in Replays(connections.plan.consumer(key), connections).each()]
    found = sorted(found, key=lambda one: one[1].replayed_at)[:limit]
    if as_json:
        put_json([{"consumer": key, **replay.__dict__} for key, replay in found])
    else:
        _show_table([form.replay_row(key, replay) for key, replay in found], "nothing was replayed", "error")


def _show_table(rows: list[dict[str, Any]], none: str, *broken: str) -> None:
    if rows:
        table(rows, unbroken=[name for name in rows[0] if name not in broken])
    else:
        say(f"{styled('✓', 'green')} {none}")


def _counted(letters: int) -> str:
    return f"{letters:,} dead letter{'' if letters == 1 else 's'}"


def _fate(plan: ConsumerPlan) -> str:
    if plan.dead_letter:
        return f'Rows of "{plan.dead_letter}" stay, as history.'
    return "They cannot be brought back; `platform dlq export` keeps a copy."


def _who() -> str:
    """Whoever types, on which machine; in a container a user may have no name."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
