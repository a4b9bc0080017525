"""`pulumi config ...`: read and write Pulumi.<stack>.yaml."""

import json
from typing import Any

from pulumi_cli.options import Arguments
from pulumi_cli.problems import CommandFailed
from pulumi_cli.stacks import Stack
from pulumi_cli.values import Secret, plain


def show(arguments: Arguments) -> int:
    config = _stack(arguments).config()
    reveal = arguments.has("--show-secrets")
    print(json.dumps({key: _entry(value, reveal) for key, value in config.items()}, indent=2))
    return 0


def _entry(value: Any, reveal: bool) -> dict[str, Any]:
    secret = isinstance(value, Secret)
    return {"secret": secret} if secret and not reveal else {"value": plain(value), "secret": secret}


def get(arguments: Arguments) -> int:
    stack = _stack(arguments)
    key = stack.key(arguments.words[2])
    config = stack.config()
    if key not in config:
        raise CommandFailed(f"configuration key '{arguments.words[2]}' not found for stack '{stack.name}'")
    print(json.dumps(_entry(config[key], reveal=True)) if arguments.has("--json") else plain(config[key]))
    return 0


def set_one(arguments: Arguments) -> int:
    words = [*arguments.words[2:], *arguments.rest]
    value = words[1] if len(words) > 1 else ""
    _write(_stack(arguments), {words[0]: (value, arguments.has("--secret"))})
    return 0


def set_all(arguments: Arguments) -> int:
    """Each value behind the flag that says what it is: `--plaintext a=1 --secret b=2`. So the flags are no switches."""
    given: dict[str, tuple[str, bool]] = {}
    if arguments.has("--json"):
        entries = json.loads(next(iter(arguments.words[2:]), "") or arguments.one("--json") or "{}")
        given = {key: (str(entry.get("value", "")), bool(entry.get("secret"))) for key, entry in entries.items()}
    else:
        kinds = [name for name, _ in arguments.flags if name in ("--secret", "--plaintext")]
        for kind, word in zip(kinds, arguments.words[2:], strict=True):
            key, _, value = word.partition("=")
            given[key] = (value, kind == "--secret")
    _write(_stack(arguments), given)
    return 0


def _write(stack: Stack, given: dict[str, tuple[str, bool]]) -> None:
    sealed = {
        stack.key(key): {"secure": stack.secrets.encrypt(value)} if secret else value
        for key, (value, secret) in given.items()
    }
    settings = stack.settings
    stack.write_settings(settings | {"config": (settings.get("config") or {}) | sealed})


def rm(arguments: Arguments) -> int:
    stack = _stack(arguments)
    gone = {stack.key(name) for name in arguments.words[2:]}
    settings = stack.settings
    kept = {key: value for key, value in (settings.get("config") or {}).items() if stack.key(key) not in gone}
    stack.write_settings(settings | {"config": kept})
    return 0


def refresh(arguments: Arguments) -> int:
    """The file backend keeps the config of the last update nowhere but in its history."""
    stack = _stack(arguments)
    if not stack.backend.history(stack.name):
        raise CommandFailed("no previous deployment")
    return 0


def _stack(arguments: Arguments) -> Stack:
    stack = Stack(arguments)
    stack.backend.read(stack.name)
    return stack
