"""Every correct project of the repository: the root app, golden cases, examples, what the README shows, templates."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from benchmarks import generated_project
from buildflow.primitives.registry import all_primitives
from buildflow.spec.document import Document, Mapping, Node, Scalar, at, parse
from tests.mutation.names import names_in
from tests.mutation.pieces import Name
from tests.test_examples import write_handlers

ROOT = Path(__file__).parents[2]
FILE = "buildflow.yaml"


@dataclass(frozen=True)
class Project:
    """A correct project. `build` writes what lies beside its buildflow.yaml into a folder."""

    name: str
    text: str
    build: Callable[[Path], object]
    arguments: dict[str, Any] = field(default_factory=dict)
    unread: frozenset[str] = frozenset()
    """Entries whose code nobody can read: what they name is not known."""

    @cached_property
    def document(self) -> Document:
        return parse(self.text, FILE)[0]

    @cached_property
    def names(self) -> list[Name]:
        return names_in(self.document)

    @cached_property
    def closed(self) -> list[Name]:
        """The names that `check` can know to be wrong."""
        return [n for n in self.names if not n.declares and n.kind != "unknown key" and self._is_known(n)]

    def _is_known(self, name: Name) -> bool:
        """Not what only the code of an unread entry, or of a stack that is not selected, could tell."""
        if name.kind.startswith("overlay of "):
            return not self.is_whole(name.path)
        elsewhere = name.path[:1] == ("stacks",) and self.stack not in name.path[1:2]
        unread = elsewhere or self.is_hidden(name) or self.unread.intersection(name.path)
        return name.kind not in _OF_CODE or not unread

    def is_hidden(self, name: Name) -> bool:
        """Whether the selected stack's overlay replaces or removes what the base says there."""
        if name.path[:1] == ("stacks",):
            return False
        over = self.overlay(self.stack, name.path[:2])
        return isinstance(over, Scalar) or (isinstance(over, Mapping) and name.path[2:3] in [(k,) for k in over.pairs])

    def overlay(self, stack: str, path: tuple[Any, ...]) -> Node | None:
        """What a stack lays over an entry of the base."""
        found = self.document.root.get("stacks")
        for part in (stack, *path):
            found = found.get(part) if isinstance(found, Mapping) else None
        return found

    def is_whole(self, path: tuple[Any, ...]) -> bool:
        """Whether an entry that a stack lays over one of the base could stand without it."""
        body = at(self.document.root, path)
        needed = _NEEDED.get(path[2], set())
        if isinstance(body, Scalar):
            return body.value is not None
        return isinstance(body, Mapping) and (not needed or bool(needed & set(body.pairs)))

    @property
    def stack(self) -> str:
        """The stack that is compiled."""
        default = self.document.root.get("default_stack")
        return str(self.arguments.get("stack") or (default.value if isinstance(default, Scalar) else "local"))

    @cached_property
    def words(self) -> set[str]:
        """Words that a typo must not turn a name into: it would be another name then."""
        return {n.text.casefold() for n in self.names}


_OF_CODE = ("module", "function", "argument", "parameter", "path parameter", "field", "column", "folder")
"""Kinds of names that only code, or the disk, can tell to be wrong."""
_NEEDED = {
    "primitives": {"type"},
    "consumers": {"source", "handler"},
    "routes": {"handler"},
    "dependencies": {"factory", "type"},
}
"""What makes an entry whole."""


@cache
def projects() -> dict[str, Project]:
    found = [_root(), _everything(), *_golden(), *_examples(), *_readme(), *_templates(), _generated()]
    return {project.name: project for project in found}


def _root() -> Project:
    def build(folder: Path) -> None:
        for name in ("handlers_example", ".env"):
            if (ROOT / name).exists():
                (folder / name).symlink_to(ROOT / name)

    return Project("root", (ROOT / FILE).read_text(), build)


def _beside(case: Path) -> Callable[[Path], object]:
    return lambda folder: shutil.copytree(case, folder, dirs_exist_ok=True)


def _everything() -> Project:
    """One that names every key of the language."""
    folder = Path(__file__).with_name("everything")
    return Project("everything", (folder / FILE).read_text(), _beside(folder))


_UNREAD = {
    "good_attributes_that_constructors_set": {"GET /", "GET /more"},
    "good_factories_of_every_form": {"anything", "made"},
    "good_factories_of_libraries": {"engine"},
    "good_functions_of_the_standard_library": {"round"},
    "good_handlers_of_every_form": {f"GET /{number}/{{id}}" for number in (4, 5, 6, 7, 11)},
    "good_libraries_that_are_not_installed": {"model", "net"},
    "good_methods_of_classes": {"GET /8/{id}", "two"},
    "good_middleware_of_every_kind": {"level", "deep"},
    "good_names_made_when_asked_for": {"GET /", "GET /lazy"},
    "good_python_of_every_kind": {"loaded", "GET /", "POST /orders"},
    "good_scalars": {"values"},
}
"""`**arguments`, decorators, objects, extension modules, libraries that are not there: by golden case."""


def _golden() -> Iterator[Project]:
    for case in sorted((ROOT / "tests/golden").glob("good_*")):
        given = case / "arguments.json"
        arguments = json.loads(given.read_text()) if given.exists() else {}
        text = (case / FILE).read_text("utf-8-sig")
        yield Project(case.name, text, _beside(case), arguments, frozenset(_UNREAD.get(case.name, ())))


def _examples() -> Iterator[Project]:
    for type_ in all_primitives():
        text = (ROOT / f"platform/buildflow/primitives/{type_}/example.yaml").read_text()
        yield Project(f"example of {type_}", text, write_handlers)


_BLOCK = re.compile(r"^```(ya?ml|python)( title=(\S+))?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _readme() -> Iterator[Project]:
    """Its YAML blocks that are whole projects, with the files that it shows by their titles."""
    blocks = _BLOCK.findall((ROOT / "README.md").read_text())
    files = {title: text for _, _, title, text in blocks if title}

    def build(folder: Path) -> None:
        for name, text in files.items():
            (folder / name).write_text(text)
        (folder / "handlers_example").symlink_to(ROOT / "handlers_example")

    wholes = [text for language, *_, text in blocks if language != "python" and re.search("^project:", text, re.M)]
    for number, text in enumerate(wholes, 1):
        yield Project(f"README {number}", text, build)


def _templates() -> Iterator[Project]:
    for file in sorted((ROOT / "platform/buildflow/templates").glob(f"*/{FILE}")):
        yield Project(f"template {file.parent.name}", file.read_text(), _beside(file.parent))


def _generated() -> Project:
    """One area of the project that the benchmarks measure."""

    def build(folder: Path) -> None:
        generated_project.write_project(folder, areas=1)

    return Project("generated", generated_project.project(generated_project.area_names(1)), build)
