"""At which lines a change of a name has to be told."""

from collections.abc import Iterator

from tests.mutation.layout import line_of
from tests.mutation.pieces import Name
from tests.mutation.projects import Project

Promise = frozenset[int]
"""Lines, one of which has to bear an error."""
EVERYWHERE: Promise = frozenset()
"""Any line."""


def of_name(project: Project, name: Name) -> tuple[Promise, ...]:
    """A name that is used is wrong where it stands; one that is declared, where it is referred to."""
    if not name.declares:
        return (frozenset({name.line}),)
    overlays = [n.line for n in project.names if n.kind.startswith("overlay of ") and n.text == name.text]
    return tuple(frozenset({n.line, *overlays}) for n in references_to(project, name))


def references_to(project: Project, name: Name) -> list[Name]:
    """Where a name is referred to that is declared nowhere else."""
    section = name.kind.removeprefix("declares ")
    if not name.declares or len(name.path) != 2 or name.text in project.arguments.get("variables", ()):
        return []
    alike = [n for n in project.names if n.text == name.text and n.kind.startswith("reference to")]
    return [n for n in alike if section in n.kind and not _is_declared_too(project, name, n)]


def _is_declared_too(project: Project, name: Name, reference: Name) -> bool:
    """Whether the stack that a reference is compiled for has a whole entry of that name without the base's."""
    stack = reference.path[1] if reference.path[:1] == ("stacks",) else project.stack
    path = ("stacks", stack, *name.path)
    return project.overlay(stack, name.path) is not None and project.is_whole(path)


def of_drop(project: Project, name: Name, start: int, end: int) -> Iterator[Promise]:
    """What is missing then, and what refers to what is gone, at the lines where it stands then."""
    text = project.text
    if name.required and not project.is_hidden(name):
        yield EVERYWHERE
    implied = name.kind == "declares stacks" and name.text == "local"
    if not name.declares or implied or "&" in text[start:end]:
        return
    gone, first = text[start:end].count("\n"), line_of(text, start)
    for lines in of_name(project, name):
        if not any(first <= line <= first + max(gone - 1, 0) for line in lines):
            yield frozenset(line - (gone if line > first else 0) for line in lines)


def dangling(names: list[Name]) -> list[Name]:
    """References to what no section declares."""
    declared = {(n.kind.removeprefix("declares "), n.text) for n in names if n.declares}
    checked = {f"reference to {section}": section for section in ("primitives", "services", "dependencies")}
    return [n for n in names if n.kind in checked and (checked[n.kind], n.text) not in declared]
