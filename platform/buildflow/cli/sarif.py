"""`platform check --format sarif`: mistakes for what shows them beside the code, such as a pull request.

Source: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from buildflow import __version__
from buildflow.compiler import Compilation
from buildflow.compiler.fix import Edit, edits, located
from buildflow.diagnostics import CODES, Diagnostic, Severity, Span
from buildflow.explanations import explanation
from buildflow.spec.document import Document

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
BASE = "%SRCROOT%"
"""What relative paths start from; whoever reads the file knows which folder that is."""

_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning"}
_WARNINGS = {"BF109", "BF126", "BF127", "BF219", "BF223", "BF224", "BF225", "BF227", "BF228", "BF230"}
"""Codes that are no error by themselves."""


def sarif(result: Compilation) -> dict[str, Any]:
    """A whole SARIF log with one run."""
    safe = set(edits(result))
    run = {
        "tool": {"driver": {"name": "platform check", "version": __version__, "rules": [_rule(c) for c in CODES]}},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {BASE: {"description": {"text": "The folder in which `platform check` ran."}}},
        "results": [_result(d, result.document, safe) for d in result.diagnostics],
    }
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(code: str) -> dict[str, Any]:
    about = explanation(code)
    return {
        "id": code,
        "name": "".join(word.capitalize() for word in re.findall(r"\w+", about.title)),
        "shortDescription": {"text": about.title},
        "fullDescription": {"text": about.text},
        "help": {"text": about.text, "markdown": about.markdown},
        "defaultConfiguration": {"level": "warning" if code in _WARNINGS else "error"},
    }


def _result(diagnostic: Diagnostic, document: Document, safe: set[Edit]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ruleId": diagnostic.code,
        "ruleIndex": list(CODES).index(diagnostic.code),
        "level": _LEVELS[diagnostic.severity],
        "message": {"text": _sentences(diagnostic.message, diagnostic.hint)},
        "locations": [{"physicalLocation": _place(diagnostic.span)}],
    }
    if diagnostic.related:
        found["relatedLocations"] = [
            {"id": number, "message": {"text": related.message}, "physicalLocation": _place(related.span)}
            for number, related in enumerate(diagnostic.related)
        ]
    if cures := [_fix(edit) for edit in _edits(diagnostic, document) if edit in safe]:
        found["fixes"] = cures
    return found


def _sentences(*parts: str) -> str:
    return "\n".join(filter(None, parts))


def _edits(diagnostic: Diagnostic, document: Document) -> Iterable[Edit]:
    fix = diagnostic.fix
    span = located(fix, document) if fix else None
    return [Edit(span, fix.old, fix.new)] if fix and span else []


def _fix(edit: Edit) -> dict[str, Any]:
    replacement = {"deletedRegion": _region(edit.span), "insertedContent": {"text": edit.new}}
    return {
        "description": {"text": f"{edit.old} -> {edit.new}"},
        "artifactChanges": [{"artifactLocation": _artifact(edit.span.file), "replacements": [replacement]}],
    }


def _place(span: Span) -> dict[str, Any]:
    return {"artifactLocation": _artifact(span.file), "region": _region(span)}


def _artifact(file: str) -> dict[str, str]:
    """Relative to where the command ran, or absolute for what is not below that."""
    path = Path(file)
    if path.is_absolute() or ".." in path.parts:
        return {"uri": path.resolve().as_uri()}
    return {"uri": quote(path.as_posix()), "uriBaseId": BASE}


def _region(span: Span) -> dict[str, int]:
    return {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }
