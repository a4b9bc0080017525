"""Long work in a terminal: a bar while it lasts, and how far it came when Ctrl-C ends it."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from buildflow.cli.terminal import say
from buildflow.interrupts import interrupt
from buildflow.spec.values import parse_rate

INTERRUPTED = 130


def _rate(text: str) -> Any:
    try:
        return parse_rate(text)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


RateOption = Annotated[
    float | None,
    typer.Option("--rate", parser=_rate, metavar="N/s", help="At most so many a second, minute or hour: 10/s, 30/m."),
]


@contextlib.contextmanager
def interruptible(so_far: Callable[[], str]) -> Iterator[None]:
    """Ctrl-C ends what is inside with 130 and the words of `so_far`, never within a step that is `whole`."""
    before = signal.signal(signal.SIGINT, lambda *_: interrupt(KeyboardInterrupt()))
    try:
        yield
    except KeyboardInterrupt:
        say(f"\ninterrupted: {so_far()}")
        sys.exit(INTERRUPTED)
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def bar(words: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """What tells how many more are done, drawn to stderr where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    drawn = Progress(
        TextColumn(words, markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # else what is data would go to stderr
    )
    with drawn:
        task = drawn.add_task("", total=total)
        yield lambda count: drawn.advance(task, count)
