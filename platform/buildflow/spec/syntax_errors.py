"""libyaml's complaints in plain words: what is wrong, where, and what to write instead.

The parser says what it expected; the line tells what the user probably meant. The rules are tried in order, the most
telling first.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from buildflow.diagnostics import Diagnostic, Span, did_you_mean


@dataclass(frozen=True)
class Complaint:
    """What the parser said: the problem, its place, what it was in the middle of. Lines and columns from 0."""

    problem: str
    line: int
    column: int
    opening: tuple[int, int] | None
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return self.at(self.line)

    def at(self, line: int) -> str:
        return self.lines[line] if 0 <= line < len(self.lines) else ""

    @property
    def character(self) -> str:
        return self.text[self.column : self.column + 1]


@dataclass(frozen=True)
class Words:
    """A complaint for the user. `line` and `column` (from 0) where it is about another place than the parser's."""

    message: str
    hint: str
    line: int | None = None
    column: int | None = None
    code: str = "BF101"
    width: int = 1


Rule = Callable[[Complaint], Words | None]


def syntax_error(exc: yaml.YAMLError, text: str, path: str) -> Diagnostic:
    """What PyYAML raised, as a diagnostic."""
    mark = getattr(exc, "problem_mark", None) or getattr(exc, "context_mark", None)
    problem = str(getattr(exc, "problem", None) or getattr(exc, "reason", None) or exc)
    if mark is None:
        return Diagnostic("BF101", f"this is no valid YAML: {problem}", Span(path))
    complaint = Complaint(problem, mark.line, mark.column, _place(exc), tuple(text.splitlines()))
    words = next((w for rule in _RULES if (w := rule(complaint))), None)
    words = words or Words(f"this is no valid YAML: {problem}", "check the quotes, brackets and indentation here")
    line = (complaint.line if words.line is None else words.line) + 1
    column = (complaint.column if words.column is None else words.column) + 1
    return Diagnostic(words.code, words.message, Span(path, line, column, line, column + words.width), words.hint)


def _place(exc: Any) -> tuple[int, int] | None:
    mark = getattr(exc, "context_mark", None)
    return (mark.line, mark.column) if mark else None


def _merge_conflict(c: Complaint) -> Words | None:
    for line in sorted({c.line - 1, c.line, c.opening[0] if c.opening else c.line}):
        if re.match(r"(<{7}|={7}|>{7})( |$)", c.at(line)):
            return Words("a merge conflict is left in this file", "resolve it", line, 0, width=7)
    return None


def _tab(c: Complaint) -> Words | None:
    indent = c.text[: len(c.text) - len(c.text.lstrip())]
    if "\t" in indent or ("cannot start any token" in c.problem and "\t" in c.text):
        column = c.text.index("\t")
        return Words("a tab indents this line; YAML takes spaces only", "replace the tab by two spaces", column=column)
    return None


def _unquoted_braces(c: Complaint) -> Words | None:
    """`{project: ${env.X}}`: inside `{...}` a brace begins another mapping."""
    found = re.search(r"""(?<!["'])\$\{[^}\s]*\}?""", c.text)
    if found and "expected ',' or" in c.problem and found.start() <= c.column <= found.end() + 1:
        message = "`${...}` has to stand in quotes inside `{...}` and `[...]`"
        return Words(message, f'write "{found[0]}", quotes included', column=found.start(), width=len(found[0]))
    if "expected ',' or" in c.problem and c.character == "{":
        message = "text that holds `{` has to stand in quotes inside `{...}` and `[...]`"
        return Words(message, "put quotes around the whole text")
    return None


def _end_of_quotes(c: Complaint) -> Words | None:
    """`"says "hello""`: the text ends at its second quote."""
    before = c.text[: c.column].rstrip()
    if "expected key" not in c.problem or before[-1:] not in ('"', "'"):
        return None
    quote = before[-1]
    if before.count(quote) % 2:  # it closes what was opened further up
        for line in range(c.line - 1, -1, -1):
            if c.at(line).count(quote) % 2:
                return Words("this quote is not closed", "close it on its line", line, c.at(line).rindex(quote))
    escaped = '`\\"`' if before[-1] == '"' else "`''`"
    hint = f"write {escaped} for a quote inside, or use the other kind of quotes around it"
    return Words("the text in quotes ends before this, and more follows", hint)


def _closing_bracket(c: Complaint) -> Words | None:
    if ("expected key" in c.problem or "cannot start" in c.problem) and c.character and c.character in "}]":
        return Words(f"a `{c.character}` too many", "remove it")
    return None


def _missing_space(c: Complaint) -> Words | None:
    """`project:shop` is text; the parser only stumbles over what follows it."""
    if "mapping values are not allowed" not in c.problem and "could not find expected ':'" not in c.problem:
        return None
    for line in (c.line, c.line - 1):
        found = re.match(r"(\s*)([A-Za-z_][\w-]*):([^\s/:][^\s:]*)\s*$", c.at(line))
        if found:
            message = f"a space is missing behind the colon of `{found[2]}:{found[3]}`"
            column, width = len(found[1]), len(found[0].strip())
            return Words(message, f"write `{found[2]}: {found[3]}`", line, column, width=width)
    return None


def _unclosed(c: Complaint) -> Words | None:
    """What was opened and never closed: where it begins says more than where the parser gave up."""
    if c.opening is None:
        return None
    line, column = c.opening
    ends = not c.text[c.column :].strip() and not any(map(str.strip, c.lines[c.line + 1 :]))
    if "end of stream" in c.problem or ("expected ',' or" in c.problem and ends):
        message = "a quoted text, a list `[` or a mapping `{` is not closed"
        return Words(message, "close it", line, column)
    if "could not find expected ':'" in c.problem:
        width = max(1, len(c.at(line).strip()))
        return Words("this key has no `:` behind it", "write `key: value`", line, column, width=width)
    if "expected ',' or" in c.problem and line < c.line and re.match(r"[A-Za-z_][\w-]*:( |$)", c.text):
        bracket = c.at(line)[column : column + 1]
        return Words(f"this `{bracket}` is not closed", "close it before the next key", line, column)
    return None


def _missing_comma(c: Complaint) -> Words | None:
    if "did not find expected ',' or" not in c.problem:
        return None
    before = c.text[: c.column].strip()
    if before or c.line == 0:
        return Words("this list or mapping lacks a comma or its closing bracket", "add `,`, `]` or `}`")
    above = next((n for n in range(c.line - 1, -1, -1) if c.at(n).strip()), c.line)
    column = len(c.at(above).rstrip())
    return Words("a comma is missing behind this line", "add `,`", above, max(0, column - 1))


def _alias(c: Complaint) -> Words | None:
    if "undefined alias" not in c.problem:
        return None
    found = re.match(r"\*([^\s,\]}]+)", c.text[c.column :])
    name = found[1] if found else ""
    above = "\n".join((*c.lines[: c.line], c.text[: c.column]))
    anchors = re.findall(r"(?:^|[\s\[{,:-])&([^\s,\]}]+)", above)
    message = f'there is no anchor "{name}" above this alias'
    hint = did_you_mean(name, anchors, f"define it first: `&{name}`")
    return Words(message, hint, code="BF108", width=len(name) + 1)


def _name_of_an_alias(c: Complaint) -> Words | None:
    if "expected alphabetic or numeric" not in c.problem:
        return None
    message = "`*` and `&` begin an alias or an anchor, and no name follows"
    return Words(message, "put quotes around the text", column=max(0, c.column - 1))


def _percent(c: Complaint) -> Words | None:
    if c.text.lstrip().startswith("%") or "directive" in c.problem or "non-alphabetical" in c.problem:
        return Words("this `%` line is not understood", "remove it, or put quotes around the text", column=0)
    return None


def _says(part: str, message: str, hint: str) -> Rule:
    return lambda c: Words(message, hint) if part in c.problem else None


_RULES: tuple[Rule, ...] = (
    _merge_conflict,
    _tab,
    _unquoted_braces,
    _end_of_quotes,
    _closing_bracket,
    _missing_space,
    _unclosed,
    _missing_comma,
    _alias,
    _name_of_an_alias,
    _percent,
    _says(
        "mapping values are not allowed",
        "a second `: ` on one line, or a line that is indented wrongly",
        "put quotes around text that holds `: `",
    ),
    _says("could not find expected ':'", "this key has no `:` behind it", "write `key: value`"),
    *(
        _says(
            f"did not find expected {what}",
            "this line does not fit the ones above it",
            "check its indentation and the quotes before it",
        )
        for what in ("key", "'-'", "<document start>")
    ),
    _says("end of stream", "a quoted text, a list `[` or a mapping `{` is not closed", "close it"),
    _says("incompatible YAML", "this version of YAML is not understood", "remove the line"),
    _says(
        "unknown escape",
        "a backslash in double quotes escapes the character behind it",
        "write two, or use single quotes",
    ),
    *(
        _says(
            what,
            "a value is missing here, or a text begins with a sign of YAML's",
            "write one, or put quotes around the text",
        )
        for what in ("expected node content", "unexpected ':'")
    ),
    _says(
        "comment or line break",
        "something follows `|` or `>` on its line",
        "begin the text on the next line",
    ),
    _says("tag", "this tag means nothing here", "remove it, or put quotes around the text"),
    _says("cannot start any token", "YAML keeps this character for itself", "put quotes around the text"),
    _says(
        "another document",
        "the file holds more than one YAML document",
        "remove the `---` and what comes behind it",
    ),
)
