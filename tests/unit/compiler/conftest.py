"""What the properties of the compiler are looked at with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from buildflow.compiler import Compilation, compile_file
from tests.unit.compiler.strategies import MODULE

Compiled = Callable[..., Compilation]
ENVIRONMENT = {"NAME": "ada", "EMPTY": ""}


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiled:
    """Compiles a text in a folder that has a module `app` and a `secrets.env`, and others by name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text(MODULE)
    (tmp_path / "secrets.env").touch()

    def compile_text(text: str | bytes, **modules: str) -> Compilation:
        for name, source in modules.items():
            (tmp_path / f"{name}.py").write_text(source)
        (tmp_path / "buildflow.yaml").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "replace"))
        return compile_file(Path("buildflow.yaml"), environment=ENVIRONMENT)

    return compile_text
