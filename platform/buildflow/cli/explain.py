"""`platform explain`: what an error means, with a wrong and a right example."""

import sys
from difflib import get_close_matches
from typing import Annotated, Any

import typer

from buildflow.cli.project import JsonOption
from buildflow.cli.terminal import put, put_json, table
from buildflow.diagnostics import CODES
from buildflow.explanations import Explanation, explanation, files


def explain(
    code: Annotated[
        str | None, typer.Argument(metavar="CODE", help="A code that `check` shows, such as BF214. Without one: all.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain an error: what it means, why it matters, how to cure it, with a wrong and a right example.

    `platform explain BF214`; `platform explain 214` will do. `platform explain` lists all codes.
    """
    if code is None:
        _list(as_json)
        return
    about = explanation(_known(code))
    if as_json:
        put_json(_data(about))
    elif sys.stdout.isatty():
        _render(about)
    else:
        put(about.markdown.rstrip())


def _known(code: str) -> str:
    """One of `CODES`, in any letter case, with or without its letters."""
    wanted = f"BF{code.upper().removeprefix('BF')}"
    if wanted in CODES:
        return wanted
    near = get_close_matches(wanted, CODES, n=3, cutoff=0.6)
    shown = f"; the closest: {', '.join(near)}" if near else ""
    raise typer.BadParameter(f'there is no code "{code}"{shown}. `platform explain` lists all', param_hint="CODE")


def _list(as_json: bool) -> None:
    codes = [{"code": code, "title": title} for code, title in CODES.items()]
    if as_json:
        put_json(codes)
    else:
        table(codes)


def _data(about: Explanation) -> dict[str, object]:
    return {
        "code": about.code,
        "title": about.title,
        "explanation": about.text,
        "wrong": files(about.wrong),
        "right": files(about.right),
    }


def _render(about: Explanation) -> None:
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.padding import Padding
    from rich.syntax import ANSISyntaxTheme, Syntax
    from rich.theme import Theme

    console = Console(file=sys.stdout, highlight=False, theme=Theme({"markdown.code": "cyan"}))
    console.width = min(console.width, 100)
    theme = ANSISyntaxTheme(_colours())
    console.print(f"[bold]{about.code}: {about.title}[/]\n")
    console.print(Markdown(about.text))
    for name, colour, example in (("Wrong", "red", about.wrong), ("Right", "green", about.right)):
        console.print(f"\n[bold {colour}]{name}[/]")
        for block in example:
            console.print(f"\n  [dim]{block.file or 'in a terminal'}[/]")
            code = Syntax(block.text.rstrip(), block.language, theme=theme, background_color="default")
            console.print(Padding(code, (0, 0, 0, 4)))


def _colours() -> Any:
    """Few, and readable on dark and on light."""
    from pygments.token import Comment, Keyword, Name, String  # type: ignore[import-untyped]  # it publishes no types
    from rich.style import Style

    return {
        Comment: Style(dim=True),
        Keyword: Style(color="blue"),
        Name.Class: Style(bold=True),
        Name.Decorator: Style(color="magenta"),
        Name.Function: Style(bold=True),
        Name.Tag: Style(color="cyan"),
        String: Style(color="green"),
    }
