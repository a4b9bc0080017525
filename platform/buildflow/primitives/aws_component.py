"""A primitive on AWS as Pulumi sees it: a component that bears the primitive's key, and its children below it.

Loaded with the Pulumi SDK, when a stack is planned or applied; the run time never needs it.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pulumi

from buildflow.errors import BuildflowError
from buildflow.ir.graph import Resource
from buildflow.providers.base import CloudProgram


class AwsProgram(CloudProgram, Protocol):
    """The program of a stack on AWS, as a component sees it."""

    def secret(self, text: str) -> pulumi.Output[str]:
        """A text with its `${secret.NAME}` put in, which no state and no terminal shows."""
        ...

    def region_of(self, resource: Resource) -> str | None:
        """Where `resource` is; None where the environment or the profile says it."""
        ...

    def look_up(
        self,
        resource: Resource,
        function: Callable[..., Any],
        *,
        missing: BuildflowError | None = None,
        **arguments: Any,
    ) -> Any:
        """What a function of the SDK finds where `resource` is. Raises `missing` where there is none: without it, that
        the resource itself does not exist."""
        ...


class AwsComponent(pulumi.ComponentResource):
    """One primitive on AWS: what `create` registers, or what `find` finds where it is not managed.

    `outputs` is what is known of it after `apply`; `ready` are the children that whoever refers to it waits for.
    """

    def __init__(self, resource: Resource, program: AwsProgram) -> None:
        super().__init__(f"buildflow:aws:{resource.label}", resource.key, None, program.options(resource))
        self.ready: list[pulumi.Resource] = []
        self._resource = resource
        self._program = program
        self._spec = resource.spec
        self.outputs: Mapping[str, Any] = self.create() if resource.managed else self.find()
        self.register_outputs(dict(self.outputs))

    def create(self) -> Mapping[str, Any]:
        """Register the children; returns the outputs."""
        raise NotImplementedError

    def find(self) -> Mapping[str, Any]:
        """Look it up; returns the outputs."""
        raise NotImplementedError

    def child(self, kind: Callable[..., Any], *, suffix: str = "", options: Any = None, **inputs: Any) -> Any:
        """A child named by the key and `suffix`; `options` are more of `pulumi.ResourceOptions`."""
        more = {"parent": self, **(options or {})}
        made = kind(f"{self._resource.key}{suffix}", **inputs, opts=self._program.options(self._resource, **more))
        self.ready.append(made)
        return made

    @property
    def tags(self) -> dict[str, str]:
        return self._program.tags(self._resource)
