"""The `.env` file beside buildflow.yaml in a process's environment, where handlers that read os.environ see it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from buildflow.errors import BuildflowError
from buildflow.spec.environment import ENV_FILE, read_env_file


def env_file_values(folder: Path) -> dict[str, str]:
    """The values of the folder's `.env` file; empty without one. Raises `BuildflowError` when it cannot be read."""
    try:
        return read_env_file(folder)
    except OSError as exc:
        reason = (exc.strerror or "it failed").lower()
        raise BuildflowError(f"{ENV_FILE} cannot be read: {reason}") from exc
    except UnicodeDecodeError:  # whose text holds what it read
        raise BuildflowError(f"{ENV_FILE} cannot be read: it is no UTF-8 text", hint="save it as UTF-8") from None


@contextlib.contextmanager
def env_file_in_environment(folder: Path) -> Iterator[None]:
    """The file's values in os.environ, and in that of every process started meanwhile. What is set already wins;
    what was added is taken out again."""
    added = {name: value for name, value in env_file_values(folder).items() if name not in os.environ}
    try:
        os.environ.update(added)
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
