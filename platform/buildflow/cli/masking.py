"""What nobody should read over a shoulder: which values a view of the configuration shows as stars."""

import re
from collections.abc import Sequence
from typing import Any

from buildflow.compiler.secrets import LOOKS_SECRET
from buildflow.providers.secret_mask import STARS

_SECRET = re.compile(
    r"secret|passw|passphrase|token|private_key|service_account_info|access_key|api[-_]?key|credential|authorization"
    r"|cookie",
    re.IGNORECASE,
)
_NUMBERS_TOO = re.compile(r"secret|passw|passphrase", re.IGNORECASE)
"""Where a number is no count: `max_tokens: 512` is one, `password: 1234` is not."""
_NAMES_OF_OTHERS = ("columns", "inject", "mounts")
"""Mappings whose keys name columns, parameters and paths: what stands behind them is no value of that name."""
_OWN_VALUES = ("with", "variables", "headers")
"""Mappings of the user's own values: a secret's name covers everything below it."""
_ENV_DEFAULT = re.compile(r"(?<!\$)\$\{\s*env\.(\w+):-([^{}]*)\}")
_REFERENCE = re.compile(r"\$\{[^{}]*\}")
_IN_URL = re.compile(r"(?P<before>://[^:/@\s]*:)(?P<secret>[^\s,]+)(?=@)")
_IN_SETTING = re.compile(
    r"\b(?P<before>(?:\w*_)?(?:password|passwd|pwd|secret|token|api_?key)=)(?P<secret>[^&\s;]+)", re.IGNORECASE
)


def sounds_secret(name: str) -> bool:
    return bool(_SECRET.search(name))


def is_secret(path: Sequence[Any], value: Any) -> bool:
    """Whether the value at `path` is a secret, by the name that it bears or by its looks."""
    if value is None or value == "" or isinstance(value, bool):
        return False
    if isinstance(value, str) and LOOKS_SECRET.search(value):
        return True
    pattern = _SECRET if isinstance(value, str) else _NUMBERS_TOO
    return any(pattern.search(name) for name in _names_of(path))


def _names_of(path: Sequence[Any]) -> list[str]:
    """The names that speak of the value at `path`: its own, and those above it among the user's own values."""
    names = [part for part in path if isinstance(part, str)]
    own = next((i for i, part in enumerate(names) if part in _OWN_VALUES and names[i - 1 : i] != ["primitives"]), None)
    if own is not None:
        return names[own + 1 :]
    return [] if len(names) > 1 and names[-2] in _NAMES_OF_OTHERS else names[-1:]


def masked(path: Sequence[Any], value: Any) -> Any:
    """The value as it may be shown. References stay, because they are no secrets; their defaults may be."""
    if is_secret(path, value):
        return _without_literals(value) if isinstance(value, str) else STARS
    if not isinstance(value, str):
        return value
    value = _ENV_DEFAULT.sub(lambda m: m[0] if not sounds_secret(m[1]) else _starred(m), value)
    for inside in (_IN_URL, _IN_SETTING):
        value = inside.sub(lambda m: m["before"] + _without_literals(m["secret"]), value)
    return value


def _without_literals(text: str) -> str:
    if "${secret." in text:
        return text
    return _ENV_DEFAULT.sub(_starred, text) if _REFERENCE.fullmatch(text) else STARS


def _starred(default: re.Match[str]) -> str:
    return f"${{env.{default[1]}:-{STARS}}}" if default[2] else default[0]
