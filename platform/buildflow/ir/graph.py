"""The resource graph: every primitive of one stack, resolved, in dependency order."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Self

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


class Indexed(BaseModel):
    """Finds its resources by key at once, however many there are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    resources: tuple[Resource, ...] = ()

    @cached_property
    def by_key(self) -> dict[str, Resource]:
        return {resource.key: resource for resource in self.resources}

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("by_key", None)  # it belongs to the resources of the original
        return copy


class ResourceGraph(Indexed):
    """All resources of a stack, those that are referred to before those that refer to them."""

    project: str
    stack: str

    def __getitem__(self, key: str) -> Resource:
        return self.by_key[key]

    def __contains__(self, key: str) -> bool:
        return key in self.by_key

    def referrers(self, key: str) -> tuple[Resource, ...]:
        """The resources that name `key` in one of their fields."""
        return tuple(r for r in self.resources if key in r.references.values())
