"""`platform config`: the effective configuration of a stack, secrets masked."""

import re
from pathlib import Path
from typing import Any

from buildflow.cli.project import Choice, FileOption, JsonOption, SetOption, StackOption, correct
from buildflow.cli.terminal import put, put_json
from buildflow.compiler import DEFAULT_FILE
from buildflow.spec.document import plain

_SECRET = re.compile(r"secret|password|token|private_key|service_account_info|access_key", re.IGNORECASE)


def config(
    file: FileOption = Path(DEFAULT_FILE),
    stack: StackOption = None,
    values: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what one stack really is: overlays laid over, `${...}` put in, short forms written out.

    Secrets stay references, and values under names that sound like secrets are masked.
    """
    result = correct(Choice(file, stack, values), as_json=as_json)
    root = dict(plain(result.declaration.root))
    root["stacks"] = {result.stack: root.get("stacks", {}).get(result.stack)}
    effective = mask(root)
    if as_json:
        put_json(effective)
        return
    import yaml

    put(yaml.safe_dump(effective, sort_keys=False, allow_unicode=True, width=100).rstrip())


def mask(value: Any, name: str = "") -> Any:
    """A copy without what nobody should read over a shoulder."""
    if isinstance(value, dict):
        return {key: mask(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [mask(item, name) for item in value]
    if isinstance(value, str) and value and _SECRET.search(name) and "${secret." not in value:
        return "********"
    if isinstance(value, str) and "://" in value:
        return re.sub(r"://([^:/@\s]*):[^@\s]+@", r"://\1:********@", value)
    return value
