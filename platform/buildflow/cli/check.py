"""`platform check`: every mistake at once, with its place and its cure."""

import sys
from pathlib import Path

from buildflow.cli.project import Choice, FileOption, JsonOption, SetOption, StackOption, compiled
from buildflow.cli.terminal import EXIT_MISTAKE, diagnostics_json, put_json, say, show_diagnostics, styled
from buildflow.compiler import DEFAULT_FILE, Compilation
from buildflow.diagnostics import Severity


def check(
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compile the project and show every mistake. Handlers are read, not imported.

    The structure of every stack is checked, and the values of the selected one. Exit code 1 if anything is wrong.
    """
    result = compiled(Choice(file, stack, values))
    if as_json:
        put_json(diagnostics_json(result.diagnostics, ok=result.ok))
    else:
        show_diagnostics(result.diagnostics, result.document.lines, result.document.path)
        errors = sum(d.severity is Severity.ERROR for d in result.diagnostics)
        warnings = len(result.diagnostics) - errors
        say(_verdict(result.document.path, result.stack, errors, warnings, _counts(result)))
    if not result.ok:
        sys.exit(EXIT_MISTAKE)


def _counts(result: Compilation) -> str:
    plan = result.plan
    parts = (("primitive", plan.resources), ("route", plan.routes), ("consumer", plan.consumers))
    return ", ".join(f"{len(items)} {name}{'' if len(items) == 1 else 's'}" for name, items in parts)


def _verdict(path: str, stack: str, errors: int, warnings: int, counts: str) -> str:
    warned = f", {warnings} warning{'' if warnings == 1 else 's'}" if warnings else ""
    if errors:
        return f"{styled('✗', 'red')} {path}: {errors} mistake{'' if errors == 1 else 's'}{warned}"
    return f"{styled('✓', 'green')} {path} is right for stack {stack}: {counts}{warned}"
