"""The ChangeSet: what `apply` would do, in words and as data."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from buildflow.ir.graph import Resource

Verb = Literal["create", "update", "replace", "delete"]


class ResourceChange(BaseModel):
    """One resource's change. `old` is what is recorded, `new` what is declared; `loses` names the data that would
    be lost, empty when none is."""

    model_config = ConfigDict(frozen=True)

    verb: Verb
    key: str
    label: str
    id: str
    old: Resource | None = None
    new: Resource | None = None
    fields: tuple[str, ...] = ()
    loses: str = ""

    @property
    def managed(self) -> bool:
        """Whether anything is made or deleted; what is not managed is looked up, and let go of."""
        resource = self.new or self.old
        return resource is None or resource.managed


class ChangeSet(BaseModel):
    """All changes of a stack, in the order in which they are made."""

    model_config = ConfigDict(frozen=True)

    project: str
    stack: str
    changes: tuple[ResourceChange, ...] = ()
    permissions: tuple[str, ...] = ()
    """What changes in who may do what, in words."""
    bindings: tuple[str, ...] = ()
    """The handlers and bindings that change with these, in words; alone they are nothing to apply."""

    def __bool__(self) -> bool:
        return bool(self.changes or self.permissions)

    def of(self, verb: Verb) -> tuple[ResourceChange, ...]:
        return tuple(change for change in self.changes if change.verb == verb)

    @property
    def losses(self) -> tuple[ResourceChange, ...]:
        return tuple(change for change in self.changes if change.loses)
