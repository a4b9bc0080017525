"""The templates of `platform init`: each is a folder that is a project itself, and becomes another one by its name."""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from buildflow.errors import BuildflowError

FOLDER = Path(__file__).parent.parent / "templates"
PLACEHOLDER = "my-project"
"""What every template calls its project."""
DEFAULT = "service"
SCHEMA = "buildflow.schema.json"
"""Where the first line of each template's buildflow.yaml tells editors to look."""
ASIDE = ".init-"
"""How the folder begins in which files are written before they get their names."""
_NO_PART = ("__pycache__", ".buildflow", ".pytest_cache", ".mypy_cache", ".ruff_cache")
"""What running a template in its own folder leaves there."""


class WouldOverwrite(BuildflowError):
    """Some of the files are there already."""

    def __init__(self, directory: Path, taken: list[str]) -> None:
        names = "\n".join(f"  {name}" for name in taken)
        super().__init__(
            f"{directory} holds files of this template already; nothing was written\n{names}",
            hint="move them away, or name another directory: platform init my-project",
        )


def names() -> list[str]:
    """The templates, the default one first."""
    found = sorted(path.name for path in FOLDER.iterdir() if (path / "buildflow.yaml").is_file())
    return sorted(found, key=lambda name: name != DEFAULT)


def summary(template: str) -> str:
    """What a template is, in a line: the first of its README below the title."""
    lines = _readme(template).splitlines()[1:]
    return next(line for line in lines if line)


def first_request(template: str) -> str:
    """The first command of its README that asks the running project for something."""
    lines = (line.removeprefix("$ ") for line in _readme(template).splitlines())
    return next(line for line in lines if line.startswith("curl "))


def _readme(template: str) -> str:
    return (FOLDER / template / "README.md").read_text("utf-8")


def files(template: str, project: str) -> dict[str, bytes]:
    """The files of a new project by their paths, and the schema that lets an editor check its buildflow.yaml."""
    from buildflow.compiler.schema import json_schema

    found = {
        path.relative_to(FOLDER / template).as_posix(): path.read_bytes().replace(
            PLACEHOLDER.encode(), project.encode()
        )
        for path in _paths(FOLDER / template)
    }
    schema = json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
    return dict(sorted({**found, SCHEMA: schema.encode()}.items()))


def _paths(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not set(path.relative_to(folder).parts) & set(_NO_PART):
            yield path


def write(contents: Mapping[str, bytes], directory: Path) -> None:
    """Write all files, or none: they are written aside and then renamed. Raises `WouldOverwrite` and OSError."""
    if directory.exists() and not directory.is_dir():
        raise BuildflowError(f"{directory} is a file, not a folder", hint="name another one: platform init my-project")
    if taken := [name for name in contents if _is_taken(directory, name)]:
        raise WouldOverwrite(directory, taken)
    made: list[Path] = []
    try:
        _make_folder(directory, made)
        aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=directory))
        made.append(aside)
        for number, content in enumerate(contents.values()):
            (aside / str(number)).write_bytes(content)
        for number, name in enumerate(contents):
            _make_folder((directory / name).parent, made)
            os.rename(aside / str(number), directory / name)
            made.append(directory / name)
        aside.rmdir()
    except BaseException:  # Ctrl-C too: it is raised again when nothing is left
        for path in reversed(made):
            _remove(path)
        raise


def _is_taken(directory: Path, name: str) -> bool:
    """Whether something is there, or a file is where one of its folders would be."""
    path = directory / name
    folders = [parent for parent in path.parents if parent.is_relative_to(directory)]
    return os.path.lexists(path) or any(os.path.lexists(folder) and not folder.is_dir() for folder in folders)


def _make_folder(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it, noting each that was not there."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir()
        made.append(path)


def _remove(path: Path) -> None:
    if path.name.startswith(ASIDE):
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):  # somebody put a file of their own there meanwhile
        path.rmdir() if path.is_dir() else path.unlink()
