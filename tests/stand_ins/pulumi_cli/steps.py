"""One step of a deployment: an operation on one resource, what it does in the cloud, and what it leaves behind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pulumi_cli.checkpoint import Resource
from pulumi_cli.clouds import is_default_provider
from pulumi_cli.events import state

PENDING = {  # what an interrupted operation is called in the checkpoint
    "create": "creating",
    "create-replacement": "creating",
    "update": "updating",
    "delete": "deleting",
    "delete-replaced": "deleting",
    "read": "reading",
    "import": "importing",
}


@dataclass
class Step:
    op: str
    resource: Resource
    """The one that the step makes, or takes away."""
    old: Resource | None = None
    new: Resource | None = None
    keys: list[str] = field(default_factory=list)
    diffs: list[str] = field(default_factory=list)
    detailed: Mapping[str, str] = field(default_factory=dict)
    logical: bool = True
    """Does it count in the summary?"""
    act: Callable[[], None] | None = None
    gone: Resource | None = None
    """What leaves the state when it is done."""

    @property
    def reported(self) -> bool:
        return not is_default_provider(self.resource)

    def metadata(self, op: str | None = None) -> dict[str, Any]:
        given = {
            "keys": self.keys,
            "diffs": self.diffs,
            "detailedDiff": {
                path: {"diffKind": kind, "inputDiff": False} for path, kind in sorted(self.detailed.items())
            },
            "logical": self.logical,
        }
        return {
            "op": op or self.op,
            "urn": self.resource.urn,
            "type": self.resource.type,
            "old": state(self.old),
            "new": state(self.new),
            "provider": self.resource.provider,
            **{key: value for key, value in given.items() if value},
        }
