"""The resource graph: every primitive of one stack, resolved, in dependency order."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from buildflow.ir.columns import Column


class Resource(BaseModel):
    """One primitive of one stack.

    `key` is its name in the YAML, `name` its physical name, `id` what `apply` prints, `label` the
    printed type. `spec` is the validated body as JSON values; `references` maps a spec field to the
    key of the primitive it names.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    type: str
    provider: str
    managed: bool = True
    name: str
    id: str
    label: str
    spec: dict[str, Any]
    references: dict[str, str] = Field(default_factory=dict)
    columns: tuple[Column, ...] = ()
    outputs: dict[str, Any] = Field(default_factory=dict)


class ResourceGraph(BaseModel):
    """All resources of a stack, those that are referred to before those that refer to them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: str
    stack: str
    resources: tuple[Resource, ...] = ()

    def __getitem__(self, key: str) -> Resource:
        for resource in self.resources:
            if resource.key == key:
                return resource
        raise KeyError(key)

    def __contains__(self, key: str) -> bool:
        return any(resource.key == key for resource in self.resources)

    def referrers(self, key: str) -> tuple[Resource, ...]:
        """The resources that name `key` in one of their fields."""
        return tuple(r for r in self.resources if key in r.references.values())
