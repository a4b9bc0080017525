"""The environment that `${env.X}` sees: the process's own, over the `.env` file beside buildflow.yaml."""

import logging
from collections.abc import Mapping
from pathlib import Path

ENV_FILE = ".env"


def read_env_file(folder: Path) -> dict[str, str]:
    """The values of the folder's `.env` file; empty without one. Raises OSError and UnicodeDecodeError."""
    path = folder / ENV_FILE
    if not path.is_file():
        return {}
    from dotenv import dotenv_values

    logging.getLogger("dotenv.main").setLevel(logging.ERROR)  # `check` tells of malformed lines, with their places
    return {name: value for name, value in dotenv_values(path, encoding="utf-8-sig").items() if value is not None}


def malformed_lines(folder: Path) -> list[int]:
    """The lines of the folder's `.env` file that are no NAME=value. Raises OSError and UnicodeDecodeError."""
    path = folder / ENV_FILE
    if not path.is_file():
        return []
    from dotenv.parser import parse_stream

    with path.open(encoding="utf-8-sig") as stream:
        return [binding.original.line for binding in parse_stream(stream) if binding.error]


def effective_environment(folder: Path, own: Mapping[str, str]) -> dict[str, str]:
    """`own`, and what the folder's `.env` file adds to it: a variable that is set wins."""
    return {**read_env_file(folder), **own}
