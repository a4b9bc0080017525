"""The providers of a deployment: those that the program made, and the default one of each package."""

from collections.abc import Callable
from typing import Any

from pulumi_cli.checkpoint import Resource
from pulumi_cli.providers import package_of
from pulumi_cli.providers.aws import Aws
from pulumi_cli.values import Properties, is_unknown

PREFIX = "pulumi:providers:"


class Nothing:
    """A provider without a cloud: random's."""

    default_tags: dict[str, str] = {}
    region = ""

    def __init__(self, inputs: Properties) -> None:
        pass

    def faults(self) -> list[str]:
        return []


PACKAGES: dict[str, Callable[[Properties], Any]] = {"aws": Aws, "random": Nothing}


class Clouds:
    """Configured providers by URN. What is only in the state, a deletion's, is configured from there."""

    def __init__(self, find: Callable[[str], Resource | None]) -> None:
        self._find = find
        self._configured: dict[str, Any] = {}

    def configure(self, provider: Resource) -> list[str]:
        """Take a provider's inputs, and say what is wrong with them. Unknown ones are left for the update."""
        if is_unknown(provider.inputs):
            self._configured[provider.urn] = None
            return []
        cloud = _cloud(provider)
        self._configured[provider.urn] = cloud
        return [] if cloud is None else list(cloud.faults())

    def of(self, reference: str) -> Any:
        """The cloud of a provider reference, `<urn>::<id>`; None where it is not known yet."""
        urn = reference.rpartition("::")[0]
        if urn not in self._configured:
            found = self._find(urn)
            self._configured[urn] = _cloud(found) if found else None
        return self._configured[urn]


def _cloud(provider: Resource) -> Any:
    make = PACKAGES.get(package_of(provider.type))
    given = {key: value for key, value in provider.inputs.items() if key != "version"}
    return make(given) if make else None


def is_provider(token: str) -> bool:
    return token.startswith(PREFIX)


def is_default_provider(resource: Resource) -> bool:
    return is_provider(resource.type) and resource.name.startswith("default")
