"""ResourceGraph + RuntimePlan -> the inline Pulumi program of a stack on AWS.

    settings ──> a provider a region ──┐
    graph, in its order ── declare ────┼──> a component a primitive ──> exported outputs
    identities ────────────────────────┴──> a component an identity: its role and its policy

Loaded with the Pulumi SDK, when a stack is planned or applied.
"""

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import pulumi

from buildflow.errors import BuildflowError, ResourceFailed
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.ir.runtime import RuntimePlan
from buildflow.primitives.registry import driver, is_declared
from buildflow.providers.secrets import cloud_sdk
from buildflow.provision.cloud.aws_provider import make_provider
from buildflow.provision.cloud.failures import in_words
from buildflow.provision.cloud.identities import identities
from buildflow.provision.cloud.roles import IdentityRole

PROVIDER = "aws"
ROLES = "buildflow:roles"
"""The export with the ARN of each identity's role; no primitive can have this key."""

Resolve = Callable[[str], str]
"""Puts the `${secret.NAME}` into a text."""


def program(
    graph: ResourceGraph, plan: RuntimePlan, settings: Mapping[str, Any], resolve: Resolve
) -> Callable[[], None]:
    """The program that declares a stack. `settings` are its providers' blocks, secrets put in; `resolve` puts those of
    a primitive in. While it runs it raises `BuildflowError`s."""

    def declare() -> None:
        cloud = StackProgram(graph, settings.get(PROVIDER, {}), resolve)
        for resource in graph.resources:
            if resource.provider == PROVIDER and is_declared(resource.type, PROVIDER):
                cloud.declare(resource)
        roles = {i.key: IdentityRole(i, plan, cloud).arn for i in identities(plan, graph)}
        pulumi.export(ROLES, roles)

    return declare


class StackProgram:
    """One run of the program; a `CloudProgram`, as drivers see it."""

    def __init__(self, graph: ResourceGraph, settings: Mapping[str, Any], resolve: Resolve) -> None:
        self.graph = graph
        self.stack_settings = settings
        self._resolve = resolve
        self._providers: dict[str | None, Any] = {}
        self._components: dict[str, Any] = {}

    def declare(self, resource: Resource) -> None:
        """Register a primitive's component, and export its outputs."""
        component = driver(resource.type, resource.provider).declare(resource, self)
        self._components[resource.key] = component
        pulumi.export(resource.key, component.outputs)

    def component(self, key: str) -> Any:
        return self._components[key]

    def declares(self, key: str) -> bool:
        """Whether a primitive has a component here."""
        return key in self._components

    def options(self, resource: Resource, *, parent: Any = None, **more: Any) -> pulumi.ResourceOptions:
        """Children have the provider of their component. What is replaced goes before its successor comes: both have
        the same name."""
        needed = [ready for key in resource.references.values() if self.declares(key) for ready in self.ready(key)]
        depends_on = [*needed, *more.pop("depends_on", ())]
        if parent is None:
            return pulumi.ResourceOptions(
                provider=self.provider(self.region_of(resource)), depends_on=depends_on, **more
            )
        return pulumi.ResourceOptions(parent=parent, depends_on=depends_on, delete_before_replace=True, **more)

    def ready(self, key: str) -> list[Any]:
        """What whoever refers to a primitive waits for."""
        return list(self._components[key].ready)

    def tags(self, resource: Resource) -> dict[str, str]:
        return {**self.stack_tags(), "buildflow:key": resource.key}

    def stack_tags(self) -> dict[str, str]:
        return {"buildflow:project": self.graph.project, "buildflow:stack": self.graph.stack}

    def secret(self, text: str) -> pulumi.Output[str]:
        return pulumi.Output.secret(self._resolve(text))

    def look_up(
        self,
        resource: Resource,
        function: Callable[..., Any],
        *,
        missing: BuildflowError | None = None,
        **arguments: Any,
    ) -> Any:
        provider = self.provider(self.region_of(resource))
        try:
            return function(**arguments, opts=pulumi.InvokeOptions(provider=provider))
        except Exception as exc:  # what the SDK raises has no type of its own
            if _MISSING.search(str(exc)):
                raise missing or _absent(resource) from exc
            words, hint = in_words(str(exc))
            raise ResourceFailed(f"{_called(resource)} cannot be looked up: {words}", hint=hint) from exc

    def region_of(self, resource: Resource) -> str | None:
        """Its own region, else that of what it refers to: S3 and SNS send to queues beside them."""
        own = (resource.spec.get(PROVIDER) or {}).get("region")
        referred = (self.graph[key] for key in resource.references.values())
        return own or next((self.region_of(r) for r in referred), None) or self.stack_settings.get("region")

    def provider(self, region: str | None = None) -> Any:
        """The provider of a region, the stack's own without one."""
        region = region or self.stack_settings.get("region")
        if region not in self._providers:
            self._providers[region] = make_provider(self.stack_settings, region)
        return self._providers[region]

    @cached_property
    def caller(self) -> pulumi.Output[Any]:
        """Who applies: the account, and the partition of AWS that it is in."""
        return self._asked("get_caller_identity_output")

    @cached_property
    def region(self) -> pulumi.Output[str]:
        """The stack's region, which may come from the environment or a profile."""
        return self._asked("get_region_output").region

    def _asked(self, function: str) -> pulumi.Output[Any]:
        answer: pulumi.Output[Any] = getattr(cloud_sdk("pulumi_aws", "aws"), function)(
            opts=pulumi.InvokeOptions(provider=self.provider())
        )
        return answer


_MISSING = re.compile(
    r"couldn't find resource|empty result|no matching|not exist|NonExistent|not ?found|404", re.IGNORECASE
)


def _absent(resource: Resource) -> ResourceFailed:
    words = f"{_called(resource)} is not managed here, and does not exist"
    return ResourceFailed(words, hint="create it, or drop `managed: false`")


def _called(resource: Resource) -> str:
    return f'{resource.label} {resource.id} ("{resource.key}")'
