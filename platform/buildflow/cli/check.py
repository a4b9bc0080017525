"""`platform check`: every mistake at once, with its place and its cure."""

import sys
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from buildflow.cli.project import Choice, FileOption, JsonOption, SetOption, StackOption, refuse_two_formats
from buildflow.cli.terminal import EXIT_MISTAKE, diagnostics_json, put_json, say, show_diagnostics, styled
from buildflow.compiler import DEFAULT_FILE, Compilation, compile_file
from buildflow.diagnostics import Diagnostic, Severity


class Format(StrEnum):
    text = "text"
    json = "json"
    sarif = "sarif"


def check(
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    all_stacks: Annotated[bool, typer.Option("--all-stacks", help="Check the values of every stack.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Put misspelt keys and names right in the file.")] = False,
    format: Annotated[
        Format | None, typer.Option("--format", help="How to print mistakes.", show_default="text")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compile the project and show every mistake. Handlers are read, not imported.

    The structure of every stack is checked, and the values of the selected one. Exit code 1 if anything is wrong.

    `platform check --fix` puts misspelt keys and names right, and touches nothing else in the file.

    `platform check --all-stacks --format sarif > check.sarif` is for CI.

    `platform explain BF205` says what a code means.
    """
    refuse_two_formats(as_json, format)
    choice = Choice(file, stack, values)
    compile = partial(compile_file, stack=stack, variables=choice.variables, all_stacks=all_stacks)
    result = compile(file)
    if fix:
        from buildflow.cli.fix import fix as fixed

        result = fixed(file, result, compile)
    if as_json or format is Format.json:
        put_json(diagnostics_json(result.diagnostics, ok=result.ok))
    elif format is Format.sarif:
        from buildflow.cli.sarif import sarif

        put_json(sarif(result))
    else:
        _show(result, all_stacks)
    if not result.ok:
        sys.exit(EXIT_MISTAKE)


def _show(result: Compilation, all_stacks: bool) -> None:
    show_diagnostics(result.diagnostics, result.document.lines, result.document.path)
    say(_verdict(result, all_stacks))
    if result.diagnostics:
        code = _first_code(result.diagnostics)
        say(f"More about {code}, with an example: platform explain {code}")


def _first_code(diagnostics: Sequence[Diagnostic]) -> str:
    """Of what keeps the project from running, if anything does."""
    first = [d for d in diagnostics if d.severity is Severity.ERROR] or diagnostics
    return first[0].code


def _verdict(result: Compilation, all_stacks: bool) -> str:
    path, found = result.document.path, result.diagnostics
    errors = sum(d.severity is Severity.ERROR for d in found)
    warned = f", {_number(len(found) - errors, 'warning')}" if len(found) > errors else ""
    if errors:
        return f"{styled('✗', 'red')} {path}: {_number(errors, 'mistake')}{warned}"
    stacks = f"every stack; {result.stack} has" if all_stacks else f"stack {result.stack}:"
    return f"{styled('✓', 'green')} {path} is right for {stacks} {_counts(result)}{warned}"


def _counts(result: Compilation) -> str:
    plan = result.plan
    parts = (("primitive", plan.resources), ("route", plan.routes), ("consumer", plan.consumers))
    return ", ".join(_number(len(items), name) for name, items in parts)


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
