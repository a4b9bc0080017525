"""The program: its commands, and the one place that turns a failure of the world into words."""

import gc

gc.set_threshold(200_000)  # a short command ends before collecting garbage pays

import os
import sys

import typer

from buildflow import __version__
from buildflow.cli import apply, check, config, destroy, dlq, graph, plan, query, run, schema, send, status
from buildflow.cli.terminal import EXIT_MISTAKE, fail, say
from buildflow.errors import BuildflowError

app = typer.Typer(
    name="platform",
    help="A backend declared in one file.\n\n"
    "Edit buildflow.yaml, `platform check` it, `platform apply` what it stores, `platform run` it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options of the program itself."""


PROJECT, DATA = "The project", "What it holds"
app.command("check", rich_help_panel=PROJECT)(check.check)
app.command("config", rich_help_panel=PROJECT)(config.config)
app.command("schema", rich_help_panel=PROJECT)(schema.schema)
app.command("graph", rich_help_panel=PROJECT)(graph.graph)
app.command("plan", rich_help_panel="Infrastructure")(plan.plan)
app.command("apply", rich_help_panel="Infrastructure")(apply.apply)
app.command("destroy", rich_help_panel="Infrastructure")(destroy.destroy)
app.command("run", rich_help_panel="Run time")(run.run)
app.command("gateway", rich_help_panel="Run time")(run.gateway)
app.command("worker", rich_help_panel="Run time")(run.worker)
app.command("watcher", rich_help_panel="Run time")(run.watcher)
app.command("status", rich_help_panel="Run time")(status.status)
app.command("send", rich_help_panel=DATA)(send.send)
app.command("query", rich_help_panel=DATA)(query.query)
app.add_typer(dlq.app, name="dlq", rich_help_panel=DATA)


def main() -> None:
    """Run the program; exit codes: 0 fine, 1 a mistake or a failure, 2 wrong usage, 3 changes, 4 declined."""
    sys.path.insert(0, os.getcwd())
    try:
        app()
    except BuildflowError as exc:
        fail(exc)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_MISTAKE)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)


if __name__ == "__main__":
    main()
