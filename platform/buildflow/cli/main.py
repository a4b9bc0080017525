"""The program: its commands, and the one place that turns a failure of the world into words."""

import gc

gc.set_threshold(200_000)  # a short command ends before collecting garbage pays

import atexit
import os
import sys
from importlib import import_module
from typing import Any, NoReturn

import typer
import typer.core

from buildflow import __version__
from buildflow.cli.terminal import EXIT_MISTAKE, fail, say
from buildflow.errors import BuildflowError

PROJECT, INFRASTRUCTURE, RUN_TIME, DATA = "The project", "Infrastructure", "Run time", "What it holds"
COMMANDS = {
    "init": ("init:init", PROJECT),
    "check": ("check:check", PROJECT),
    "config": ("config:config", PROJECT),
    "schema": ("schema:schema", PROJECT),
    "graph": ("graph:graph", PROJECT),
    "explain": ("explain:explain", PROJECT),
    "plan": ("plan:plan", INFRASTRUCTURE),
    "apply": ("apply:apply", INFRASTRUCTURE),
    "destroy": ("destroy:destroy", INFRASTRUCTURE),
    "refresh": ("refresh:refresh", INFRASTRUCTURE),
    "cancel": ("refresh:cancel", INFRASTRUCTURE),
    "run": ("run:run", RUN_TIME),
    "gateway": ("run:gateway", RUN_TIME),
    "worker": ("run:worker", RUN_TIME),
    "watcher": ("run:watcher", RUN_TIME),
    "status": ("status:status", RUN_TIME),
    "send": ("send:send", DATA),
    "invoke": ("invoke:invoke", DATA),
    "query": ("query:query", DATA),
    "dlq": ("dlq:app", DATA),
}
"""Each command: its module and name in this folder, and the panel of the help that shows it."""


class Program(typer.core.TyperGroup):
    """The commands, and what is wrong about an argument in the user's words."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as exc:
            for said, meant in _IN_WORDS:
                exc.message = exc.message.replace(said, meant)
            raise


_IN_WORDS = (
    ("Value error, ", ""),
    ("Input should be a valid integer, unable to parse string as an integer", "a whole number is expected"),
    ("Input should be", "it has to be"),
)
"""What the library that checks arguments says to programmers."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options of the program itself."""


def program(only: str | None = None) -> typer.Typer:
    """The program with all its commands, or with one: a command that is not asked for is not imported."""
    made = typer.Typer(
        name="platform",
        cls=Program,
        help="A backend declared in one file.\n\n"
        "Edit buildflow.yaml, `platform check` it, `platform apply` what it stores, `platform run` it.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    made.callback()(_options)
    for name in (only,) if only in COMMANDS else COMMANDS:
        place, panel = COMMANDS[name]
        module, _, attribute = place.partition(":")
        found = getattr(import_module(f"buildflow.cli.{module}"), attribute)
        if isinstance(found, typer.Typer):
            made.add_typer(found, name=name, rich_help_panel=panel)
        else:
            made.command(name, rich_help_panel=panel)(found)
    return made


def __getattr__(name: str) -> Any:
    """`app`: the whole program, for whoever looks at its commands."""
    if name == "app":
        return program()
    raise AttributeError(name)


def main() -> NoReturn:
    """Run the program; exit codes: 0 fine, 1 a mistake or a failure, 2 wrong usage, 3 changes, 4 declined."""
    sys.path.insert(0, os.getcwd())
    try:
        _run()
    except SystemExit as exc:
        _leave(exc.code if isinstance(exc.code, int) else int(exc.code is not None))
    _leave(0)


def _run() -> None:
    try:
        program(next((word for word in sys.argv[1:] if not word.startswith("-")), None))()
    except BuildflowError as exc:
        fail(exc)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_MISTAKE)
    except OSError as exc:  # a full disk, a folder that may not be written: the world's failures too
        fail(BuildflowError(str(exc)))
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)


def _leave(code: int) -> NoReturn:
    """End without taking the interpreter apart, which takes a fifth of a short command's time. What asked to be run
    at the end is run; a bug's traceback does not come this way."""
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # nobody reads any more
        code = code or EXIT_MISTAKE
    os._exit(code)


if __name__ == "__main__":
    main()
