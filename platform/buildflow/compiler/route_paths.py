"""The keys of `routes`: what is wrong with one, and which of two answers for the other."""

import re
from dataclasses import dataclass

from buildflow.diagnostics import closest
from buildflow.spec.project import METHODS, ROUTE

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::(str|int|float|path|uuid))?\}")
_KINDS_OF_PARAMETERS = ("str", "int", "float", "path", "uuid")


def malformed_route(key: str, written: str) -> tuple[str, str] | None:
    """Why a key of `routes` cannot be served, and a hint; `written` is the key in the letter case of the file."""
    method, _, path = key.partition(" ")
    if method not in METHODS:
        return "it begins with no method", _method_hint(written)
    if re.search(r"[?#]", path):
        part = re.split(r"[?#]", path)[0]
        return "a path holds no `?` and no `#`", f"write `{method} {part}`: parameters of the query are the function's"
    if not re.fullmatch(ROUTE, key):
        return "its path has to begin with / and hold no space", "such as `GET /orders/{id}`"
    if re.search(r"/:\w|[<>]", path):
        return "a parameter of its path is malformed", f"write `{_in_our_style(path)}`"
    names = [match[1] for match in _PARAMETER.finditer(path)]
    if set("{}") & set(_PARAMETER.sub("", path)):
        return "a parameter of its path is malformed", _parameter_hint(path)
    if len(names) > len(set(names)):
        return "two parameters of its path have one name", "rename one"
    return None


def _parameter_hint(path: str) -> str:
    kind = re.search(r"\{\w+:(\w+)\}", path)
    near = closest(kind[1], _KINDS_OF_PARAMETERS) if kind and kind[1] not in _KINDS_OF_PARAMETERS else None
    return f'did you mean "{near}"?' if near else "write `{name}` or `{name:int}`; kinds: str int float path uuid"


def _method_hint(key: str) -> str:
    words = key.split()
    if len(words) == 2 and words[1].upper() in METHODS:
        return f"write `{words[1].upper()} {words[0]}`"
    first = words[0].upper() if words else ""
    near = "WS" if first == "WEBSOCKET" else closest(first, METHODS) if first.isalpha() else None
    if near:
        return f'did you mean "{near}"?'
    return f"write METHOD /path; methods: {' '.join(METHODS)}"


def _in_our_style(path: str) -> str:
    """Flask's `<int:id>` and Rails' `:id` as `{id:int}` and `{id}`."""
    path = re.sub(r"<(?:(\w+):)?(\w+)>", lambda m: f"{{{m[2]}:{m[1]}}}" if m[1] else f"{{{m[2]}}}", path)
    return re.sub(r"/:(\w+)", r"/{\1}", path)


_KINDS = {"str": "[^/]+", "int": "[0-9]+", "float": r"[0-9]+(\.[0-9]+)?", "uuid": "[0-9a-fA-F-]{32,36}", "path": ".*"}
"""What a parameter of a path matches. Source: starlette.convertors"""
_COVERS = {"str": {"str", "int", "float", "uuid"}, "float": {"float", "int"}, "int": {"int"}, "uuid": {"uuid"}}
"""Which kinds a parameter of a kind takes all values of."""


@dataclass(frozen=True)
class PathShape:
    """A path without the names of its parameters: each part is text, or a parameter's kind in braces."""

    parts: tuple[str, ...]

    @property
    def start(self) -> str:
        """The first part; empty where it holds a parameter."""
        return "" if "{" in self.parts[0] else self.parts[0]

    @property
    def is_open(self) -> bool:
        """Whether it holds a parameter."""
        return any("{" in part for part in self.parts)

    def answers_for(self, other: "PathShape") -> bool:
        """Whether every request of `other` is one of this, too."""
        if self.parts[-1] == "{path}":
            shorter = self.parts[:-1]
            return len(other.parts) > len(shorter) and all(map(_takes, shorter, other.parts))
        return len(self.parts) == len(other.parts) and all(map(_takes, self.parts, other.parts))


def shape_of(path: str) -> PathShape:
    """A path with the kinds of its parameters: `/orders/{id:int}` is `orders`, `{int}`."""
    kinds = _PARAMETER.sub(lambda match: f"{{{match[2] or 'str'}}}", path)
    return PathShape(tuple(kinds.removeprefix("/").split("/")))


def _takes(part: str, other: str) -> bool:
    """Whether a part of a path takes every value of another one's."""
    if part == other or "{" not in part:
        return part == other
    if other.startswith("{") and other.endswith("}") and other.count("{") == 1:
        return part.startswith("{") and other[1:-1] in _COVERS.get(part[1:-1], set())
    if "{" in other:
        return part == "{str}" and "{path}" not in other
    pieces = re.split(r"\{(\w+)\}", part)
    pattern = "".join(_KINDS[p] if i % 2 else re.escape(p) for i, p in enumerate(pieces))
    return re.fullmatch(pattern, other) is not None
