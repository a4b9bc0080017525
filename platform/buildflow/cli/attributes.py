"""`--attribute name=value`: what goes with a message."""

from typing import Annotated

import typer

AttributeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--attribute", "-a", metavar="NAME=VALUE", help="An attribute of a message, a header of a request. Repeatable."
    ),
]  # fmt: skip


def as_mapping(pairs: list[str] | None) -> dict[str, str]:
    """The options' values as a mapping."""
    found = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f'"{pair}" is not name=value', param_hint="--attribute")
        found[name] = value
    return found
