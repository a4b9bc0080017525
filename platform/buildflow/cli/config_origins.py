"""Where a value of the effective configuration comes from, in words: a place, a stack's overlay, a variable."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from buildflow.compiler.canonical import canonicalize
from buildflow.diagnostics import Span
from buildflow.spec.document import Document, Mapping, Node, Scalar, Sequence, walk
from buildflow.spec.interpolation import references

DEFAULT = "default"
Path = tuple[Any, ...]


@dataclass(frozen=True)
class Origins:
    """What knows the origins of one stack's values: the file before anything was put in, and what was put in.

    `variables` are those that `--set` gave, `environment` the process's own, `env_file` what `.env` adds to it;
    `chosen` is whether `--stack` named the stack.
    """

    document: Document
    stack: str
    variables: dict[str, str]
    environment: dict[str, str]
    env_file: dict[str, str]
    chosen: bool = False

    @cached_property
    def canonical(self) -> Mapping:
        """The file with its short forms written out and nothing put in: the paths of the effective one."""
        return canonicalize(self.document.root)[0]

    @cached_property
    def _written(self) -> set[tuple[Span, Any]]:
        return {(node.span, node.value) for _, node in walk(self.document.root) if isinstance(node, Scalar)}

    def of(self, path: Path, node: Scalar) -> str:
        """`buildflow.yaml:12:9`, or what was put in there; `default` for what the file does not say."""
        source, overlay = self._source(path, node)
        if (source.span, source.value) not in self._written:
            return DEFAULT
        reasons = [f"overlay of stack {self.stack}"] if overlay else []
        if node.interpolated:
            reasons += self._put_in(source)
        place = f"{node.span.file}:{node.span.line}:{node.span.column}"
        return f"{', '.join(dict.fromkeys(reasons))} ({place})" if reasons else place

    def refers_to(self, path: Path, node: Scalar) -> list[str]:
        """The names of the variables whose values stand in the text at `path`."""
        source, _ = self._source(path, node)
        return [rest.partition(":-")[0] for root, rest in _references(source) if root in ("env", "var")]

    def _source(self, path: Path, node: Scalar) -> tuple[Scalar, bool]:
        """The value as the file has it, and whether an overlay does."""
        for prefix, overlay in ((("stacks", self.stack), True), ((), False)):
            found = _exactly(self.canonical, (*prefix, *path))
            if isinstance(found, Scalar) and found.span == node.span:
                return found, overlay
        return node, False

    def _put_in(self, source: Scalar) -> Iterator[str]:
        for root, rest in _references(source):
            name, has_default, _ = rest.partition(":-")
            if root == "env":
                yield self._environment(name, bool(has_default))
            elif root == "var":
                yield f"--set var.{rest}" if rest in self.variables else f"variable {rest}"
            elif root in ("project", "stack"):
                yield f"${{{root}{f'.{rest}' if rest else ''}}}"

    def _environment(self, name: str, has_default: bool) -> str:
        """The process's own variable hides that of `.env`; one that is empty counts as not set where there is a
        default."""
        own = name in self.environment
        value = self.environment[name] if own else self.env_file.get(name)
        if value or (value is not None and not has_default):
            return f"environment variable {name}" if own else f"{name} of .env"
        return f"default of ${{env.{name}}}"


def _references(source: Scalar) -> list[tuple[str, str]]:
    return [(root.strip(), rest.strip()) for root, rest in references(str(source.value))]


def _exactly(node: Node | None, path: Path) -> Node | None:
    for part in path:
        if isinstance(node, Mapping):
            node = node.get(part)
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
        else:
            return None
    return node
