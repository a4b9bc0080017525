"""`platform init`: a new project that runs."""

import re
import shlex
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from buildflow.cli import templates
from buildflow.cli.graph_texts import branches
from buildflow.cli.project import JsonOption
from buildflow.cli.terminal import EXIT_MISTAKE, put, put_json, say, styled
from buildflow.diagnostics import did_you_mean
from buildflow.spec.project import PROJECT_NAME

RULE = "lower-case letters, digits and hyphens, a letter first, at most 63"


def init(
    directory: Annotated[Path, typer.Argument(help="The folder to make it in.", show_default="this one")] = Path("."),
    template: Annotated[str | None, typer.Option("--template", "-t", help="What to begin with; see `--list`.")] = None,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="The project's name. Without one, the folder's.")
    ] = None,
    show_list: Annotated[bool, typer.Option("--list", help="List the templates.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a new project that runs: its buildflow.yaml, handlers, a test.

    `platform init shop` asks on a terminal, and takes the template `service` elsewhere; `platform init shop
    --template consumer --name shop` asks nothing. Files that are there already are never overwritten.
    """
    if show_list:
        _list(as_json)
        return
    chosen = _checked(template, _unknown_template, "--template") or _choose_template()
    default = name_for(directory)
    project = _checked(name, _wrong_name, "--name") or _choose_name(default)
    files = templates.files(chosen, project)
    templates.write(files, directory)
    if as_json:
        put_json({"directory": str(directory), "project": project, "template": chosen, "files": list(files)})
    _tell(directory, project, chosen, files)


def _list(as_json: bool) -> None:
    found = {name: templates.summary(name) for name in templates.names()}
    if as_json:
        put_json([{"name": name, "summary": summary} for name, summary in found.items()])
        return
    width = max(map(len, found))
    put("\n".join(f"{name:<{width}}  {summary}" for name, summary in found.items()))


def name_for(directory: Path) -> str:
    """The folder's name as a project may bear it."""
    ascii_only = unicodedata.normalize("NFKD", directory.resolve().name).encode("ascii", "ignore").decode()
    words = re.sub(r"[^a-z0-9]+", "-", ascii_only.lower()).strip("-")
    if not words:
        return templates.PLACEHOLDER
    return (words if words[0].isalpha() else f"app-{words}")[:63].rstrip("-")


def _unknown_template(name: str) -> str:
    known = templates.names()
    return "" if name in known else f'there is no template "{name}"; {did_you_mean(name, known)}'


def _wrong_name(name: str) -> str:
    return "" if re.fullmatch(PROJECT_NAME, name) else f'"{name}" is no project name: {RULE}'


def _checked(value: str | None, problem_of: Callable[[str], str], option: str) -> str | None:
    if value is not None and (problem := problem_of(value)):
        raise typer.BadParameter(problem, param_hint=option)
    return value


# questions, on a terminal only


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _choose_template() -> str:
    if not _is_terminal():
        return templates.DEFAULT
    known = templates.names()
    width = max(map(len, known))
    for number, name in enumerate(known, 1):
        say(f"  {number}  {styled(f'{name:<{width}}', 'bold')}  {templates.summary(name)}")
    by_number = {str(number): name for number, name in enumerate(known, 1)}
    answer = _ask("Which template", templates.DEFAULT, lambda text: _unknown_template(by_number.get(text, text)))
    return by_number.get(answer, answer)


def _choose_name(default: str) -> str:
    return _ask("Name of the project", default, _wrong_name) if _is_terminal() else default


def _ask(question: str, default: str, problem_of: Callable[[str], str]) -> str:
    """An answer that is right; an empty one is the default. The end of input ends the command."""
    while True:
        sys.stderr.write(f"{question} [{default}]: ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            say("\nnothing was written")
            sys.exit(EXIT_MISTAKE)
        answer = line.strip() or default
        problem = problem_of(answer)
        if not problem:
            return answer
        say(problem)


# what was made


def _tell(directory: Path, project: str, template: str, files: Iterable[str]) -> None:
    say(f"{styled('✓', 'green')} made the project {project} from the template {template}\n")
    for line in _tree(directory.as_posix(), files):
        say(line)
    here = [] if directory.resolve() == Path.cwd() else [f"cd {shlex.quote(str(directory))}"]
    _tell_commands("next", *here, "platform check", "platform run --apply")
    _tell_commands("then, from another terminal", templates.first_request(template))


def _tree(root: str, paths: Iterable[str]) -> Iterator[str]:
    folders: dict[str, list[str]] = {}
    for path in paths:
        first, _, rest = path.partition("/")
        folders.setdefault(first, []).extend([rest] if rest else [])
    yield root
    for (name, below), bar, indent in branches(list(folders.items()), ""):
        first, *more = _tree(name, below)
        yield f"{bar}{first}"
        yield from (f"{indent}{line}" for line in more)


def _tell_commands(heading: str, *commands: str) -> None:
    say(f"\n{heading}:")
    for command in commands:
        say(f"  {styled(command, 'cyan')}")
