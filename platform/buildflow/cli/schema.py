"""`platform schema`: the JSON schema that editors use."""

import json
from pathlib import Path
from typing import Annotated

import typer

from buildflow.cli.terminal import put, say


def schema(
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it there instead of to stdout.")] = None,
) -> None:
    """Print the JSON schema of buildflow.yaml (draft 2020-12), for completion and checks in an editor."""
    from buildflow.compiler.schema import json_schema

    text = json.dumps(json_schema(), indent=2, ensure_ascii=False)
    if out is None:
        put(text)
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
    except OSError as exc:
        raise typer.BadParameter(f"{out} cannot be written: {exc.strerror}", param_hint="--out") from exc
    say(f"wrote {out}")
