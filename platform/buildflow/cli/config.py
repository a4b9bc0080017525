"""`platform config`: what a stack really is, or the file in its one canonical form; secrets masked."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from buildflow.cli.config_origins import Origins
from buildflow.cli.config_text import commented, flat, plain, yaml_lines
from buildflow.cli.config_values import Tree, canonical, resolved
from buildflow.cli.project import Choice, FileOption, JsonOption, SetOption, StackOption, compiled, correct
from buildflow.cli.terminal import put, put_json, show_diagnostics, styled
from buildflow.compiler import DEFAULT_FILE, Compilation
from buildflow.diagnostics import errors_in
from buildflow.spec.environment import read_env_file

OF_DRIVERS = ("BF217",)
"""Mistakes that keep a stack from running, and not from being printed: what a provider does not have yet."""
OF_VALUES = ("BF121",)
"""Mistakes that the canonical form does not mind, because it puts nothing in: a variable that is not set."""


def config(
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    as_resolved: Annotated[
        bool, typer.Option("--resolved", help="One stack: overlays laid over, `${...}` put in, defaults. The default.")
    ] = False,
    as_canonical: Annotated[
        bool, typer.Option("--canonical", help="The file in its one form: all stacks, short forms written out.")
    ] = False,
    origins: Annotated[bool, typer.Option("--origins", help="Say of every value where it comes from.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what one stack really is, or the file in its canonical form, as YAML that `platform check` accepts.

    `platform config --stack aws --origins` tells a value of the file from an overlay's, an environment variable's
    and a default. Secrets stay references, and values under names that sound like secrets are masked.
    """
    if as_resolved and as_canonical:
        raise typer.BadParameter("choose one of them", param_hint="--resolved, --canonical")
    choice = Choice(file, stack, values)
    result = _printable(choice, as_json, (*OF_DRIVERS, *OF_VALUES) if as_canonical else OF_DRIVERS)
    known = origins_of(result, choice)
    tree = canonical(known) if as_canonical else resolved(result, known)
    show(tree, with_origins=origins, as_json=as_json)


def _printable(choice: Choice, as_json: bool, forgiven: tuple[str, ...]) -> Compilation:
    """The compilation, if all its errors are `forgiven`. Those of drivers are shown all the same, on stderr."""
    result = compiled(choice)
    if errors_in(d for d in result.diagnostics if d.code not in forgiven):
        return correct(choice, as_json=as_json)
    lacking = [d for d in result.diagnostics if d.code in OF_DRIVERS]
    show_diagnostics(lacking, result.document.lines, result.document.path)
    return result


def origins_of(result: Compilation, choice: Choice) -> Origins:
    return Origins(
        result.document,
        result.stack,
        choice.variables,
        environment=dict(os.environ),
        env_file=read_env_file(result.root),
        chosen=choice.stack is not None,
    )


def show(tree: dict[str, Tree], *, with_origins: bool, as_json: bool) -> None:
    if as_json and with_origins:
        put_json({path: {"value": leaf.value, "origin": leaf.origin} for path, leaf in flat(tree)})
    elif as_json:
        put_json(plain(tree))
    else:
        lines = list(yaml_lines(tree))
        told = commented(lines) if with_origins else ((text, "") for text, _ in lines)
        put("\n".join(text + styled(about, "dim", to=sys.stdout) if about else text for text, about in told))
