"""One mistake in a correct file, chosen by a seed: dropped, renamed, retyped, duplicated, misindented or misspelt.

Where the mistake changes what a closed name means, the mutation promises at which line that has to be reported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import yaml

from buildflow.spec.document import parse
from tests.mutation.layout import entries, in_braces, line_of, means_something, whole_lines, with_text
from tests.mutation.names import names_in
from tests.mutation.pieces import Name
from tests.mutation.projects import FILE, Project
from tests.mutation.promises import EVERYWHERE, Promise, dangling, of_drop, of_name, references_to
from tests.mutation.typos import language, typo


@dataclass(frozen=True)
class Mutation:
    """A changed file. Of each set of lines in `promises` one has to bear an error; `EVERYWHERE` is any line.
    `name` and `kind` are those of the name that was changed, where the mutation changes just one."""

    operator: str
    text: str
    note: str
    promises: tuple[Promise, ...] = ()
    name: str = ""
    kind: str = ""


STRANGER = "zebra"
"""A word that nothing in any project is near to."""


def mutate(project: Project, number: int) -> Mutation:
    """The mutation of this number. An operator that finds nothing to change leaves it to the next one."""
    chance = Random(f"{project.name}/{number}")
    first = chance.choices(range(len(OPERATORS)), WEIGHTS)[0]
    for operator in (*OPERATORS[first:], *OPERATORS[:first]):
        if mutation := operator(project, chance):
            return mutation
    raise AssertionError(f"nothing to change in {project.name}")


def misspell(project: Project, chance: Random) -> Mutation | None:
    """A typo in a closed name. Those of one or two letters are left alone: nobody could say what was meant."""
    return _respelt("misspell", project, chance, [n for n in project.closed if len(n.text) > 2])


def misspell_declaration(project: Project, chance: Random) -> Mutation | None:
    """A typo where a name is declared: what refers to it is wrong."""
    names = [n for n in project.names if len(n.text) > 2 and references_to(project, n)]
    return _respelt("misspell a declaration", project, chance, names)


def _respelt(operator: str, project: Project, chance: Random, names: list[Name]) -> Mutation | None:
    name = chance.choice(names) if names else None
    slips = (typo(name.text, chance) for _ in range(20)) if name else iter(())
    new = next((slip for slip in slips if _is_new(slip, project)), None)
    return _replaced(operator, project, name, new) if name and new else None


def _is_new(word: str, project: Project) -> bool:
    """Whether a slip ends at no other name, and at something that could be one."""
    return word[:1].isalpha() and word.casefold() not in project.words | language()


def rename(project: Project, chance: Random) -> Mutation | None:
    """Another word altogether, where a name is used or declared."""
    names = [*project.closed, *(n for n in project.names if references_to(project, n))]
    return _replaced("rename", project, chance.choice(names), f"{STRANGER}_{chance.randrange(100)}") if names else None


def _replaced(operator: str, project: Project, name: Name, new: str) -> Mutation:
    text = with_text(project.text, name.line, name.column, name.text, new)
    return Mutation(operator, text, f"{name.text} -> {new}", of_name(project, name), name.text, name.kind)


def drop(project: Project, chance: Random) -> Mutation | None:
    """A key with all that stands below it."""
    text, found = project.text, entries(project.text)
    names = [n for n in project.names if (n.line, n.column) in found and (n.kind == "key" or n.declares)]
    names = [n for n in names if found[n.line, n.column].alone or found[n.line, n.column].flow]
    if not names:
        return None
    name = chance.choice(names)
    entry = found[name.line, name.column]
    start, end = in_braces(text, entry) if entry.flow else whole_lines(text, entry)
    promises = tuple(of_drop(project, name, start, end))
    return Mutation("drop", text[:start] + text[end:], f"without {name.text}", promises, kind=name.kind)


def drop_line(project: Project, chance: Random) -> Mutation | None:
    lines = project.text.splitlines(keepends=True)
    number = chance.choice([i for i, line in enumerate(lines) if means_something(line)])
    return _laid_out("drop a line", [*lines[:number], *lines[number + 1 :]], f"without line {number + 1}")


VALUES = {
    **{"text": STRANGER, "number": "7", "true or false": "true"},
    **{"list": f"[{STRANGER}]", "mapping": f"{{{STRANGER}: 7}}"},
}


def retype(project: Project, chance: Random) -> Mutation | None:
    """A value of a kind that its key does not take."""
    text, found = project.text, entries(project.text)
    names = [n for n in project.names if n.accepts and (n.line, n.column) in found]
    if not names:
        return None
    name = chance.choice(names)
    entry = found[name.line, name.column]
    is_open, has_anchor = "anything" in name.accepts, "&" in text[entry.value : entry.end]
    value = VALUES[chance.choice([kind for kind in VALUES if kind not in name.accepts])]
    promises = () if is_open else (EVERYWHERE if has_anchor else frozenset({name.line}),)
    changed = f"{text[: entry.key_end]}: {value}{text[entry.end :]}"
    return Mutation("retype", changed, f"{name.text}: {value}", promises, kind=name.kind)


def duplicate(project: Project, chance: Random) -> Mutation | None:
    """An entry a second time."""
    text = project.text
    found = [e for e in entries(text).values() if (e.alone or e.flow) and "&" not in text[e.start : e.end]]
    if not found:
        return None
    entry = chance.choice(found)
    start, end = (entry.start, entry.end) if entry.flow else whole_lines(text, entry)
    between = ", " if entry.flow else "\n" * (not text[start:end].endswith("\n"))
    twice = text[:end] + between + text[start:]
    line = line_of(twice, end + len(between))
    return Mutation("duplicate", twice, text[entry.start : entry.key_end], (frozenset({line}),))


def misindent(project: Project, chance: Random) -> Mutation | None:
    """One line, one or two columns to either side, or behind a tab."""
    lines = project.text.splitlines(keepends=True)
    number = chance.choice([i for i, line in enumerate(lines) if means_something(line)])
    content = lines[number].lstrip(" ")
    spaces = len(lines[number]) - len(content)
    by = chance.choice([b for b in (-2, -1, 1, 2, 0) if spaces + b >= 0])
    lines[number] = " " * (spaces + by) + ("" if by else "\t") + content
    return _laid_out("misindent", lines, f"line {number + 1} by {by or 'a tab'}")


def _laid_out(operator: str, lines: list[str], note: str) -> Mutation:
    """A changed layout promises what its new reading shows: keys where no such key is known; or, if there are none,
    references to nothing."""
    text = "".join(lines)
    try:
        yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.YAMLError:
        return Mutation(operator, text, note, (EVERYWHERE,))
    names = names_in(parse(text, FILE)[0])
    strange = [n for n in names if n.kind == "unknown key"]
    return Mutation(operator, text, note, tuple(frozenset({n.line}) for n in strange or dangling(names)))


OPERATORS: tuple[Callable[[Project, Random], Mutation | None], ...] = (
    *(misspell, misspell_declaration, rename, drop, drop_line, retype, duplicate, misindent),
)
WEIGHTS = (10, 1, 2, 2, 1, 2, 2, 2)
