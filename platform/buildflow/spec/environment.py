"""The environment that `${env.X}` sees: the process's own, over the `.env` file beside buildflow.yaml."""

from collections.abc import Mapping
from pathlib import Path

ENV_FILE = ".env"


def read_env_file(folder: Path) -> dict[str, str]:
    """The values of the folder's `.env` file; empty without one. Raises OSError and UnicodeDecodeError."""
    path = folder / ENV_FILE
    if not path.is_file():
        return {}
    from dotenv import dotenv_values

    return {name: value for name, value in dotenv_values(path, encoding="utf-8-sig").items() if value is not None}


def effective_environment(folder: Path, own: Mapping[str, str]) -> dict[str, str]:
    """`own`, and what the folder's `.env` file adds to it: a variable that is set wins."""
    return {**read_env_file(folder), **own}
