"""What a resource type is to the engine: its properties, and how it is created, read, updated and deleted."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pulumi_cli.values import UNKNOWN, Properties, differences, document, is_unknown, plain, root

DEFAULTED = "__defaults"
"""The input that names the properties which the provider filled in, as the real provider keeps it."""


@dataclass(frozen=True)
class Diff:
    """How new inputs differ from a resource's state."""

    paths: Mapping[str, str] = field(default_factory=dict)
    """Property path -> add, update or delete, with "-replace" behind it where it forces a replacement."""
    delete_first: bool = False

    @property
    def keys(self) -> list[str]:
        """The properties that force a replacement."""
        return sorted({root(path) for path, kind in self.paths.items() if kind.endswith("-replace")})

    @property
    def changed(self) -> list[str]:
        return sorted({root(path) for path in self.paths})


class Handler:
    """One resource type. Subclasses say what they know of it in these tables, and do the rest in four methods."""

    token = ""
    noun = ""
    """What the provider calls it in its errors: "SQS Queue"."""
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = {}
    named = ""
    """The property that gets the resource's name and a few letters, if the program gives none."""
    name_ending = ""
    replace_on: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    """JSON texts: the meaning counts, not the spelling."""
    regional = True

    def create(self, cloud: Any, inputs: Properties) -> str:
        """Create it and say its id."""
        raise NotImplementedError

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        """What it is now, in the provider's property names; None where it does not exist. `known` is what is known of
        it: its outputs so far, or the inputs it was created with."""
        raise NotImplementedError

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> None:
        """Make it what the new inputs say. Types of which every property replaces have none."""
        raise NotImplementedError

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        raise NotImplementedError

    def refuses_without(self, inputs: Properties, other: Any) -> str:
        """What the cloud would say if `other`, another resource of the stack, were not there yet. The engine asks it of
        those that this one does not depend on: so a race fails every time, and not now and then."""
        return ""

    # What the engine asks of every type alike

    def check(self, name: str, inputs: Properties, old: Properties, cloud: Any) -> tuple[Properties, list[str]]:
        """Inputs with what the provider fills in, and what is wrong with them."""
        known = {*self.required, *self.optional, *(("region",) if self.regional else ())}
        faults = [
            f'Unsupported argument: the stand-in for the provider knows no argument "{key}" of {self.token}. '
            f"Examine values at '{name}.{key}'."
            for key in sorted(inputs.keys() - known)
        ]
        faults += [
            f'Missing required argument. The argument "{key}" is required, but no definition was found.. '
            f"Examine values at '{name}.{key}'."
            for key in self.required
            if key not in inputs
        ]
        filled = {key: value for key, value in self.defaults.items() if key not in inputs}
        if self.named and self.named not in inputs and f"{self.named}Prefix" not in inputs:
            filled[self.named] = self._automatic_name(name, old)
        checked = inputs | filled
        if "tags" in self.optional and cloud is not None and cloud.default_tags:
            checked["tags"] = cloud.default_tags | (plain(inputs.get("tags")) or {})
        return checked | {DEFAULTED: sorted(filled)}, faults

    def _automatic_name(self, name: str, old: Properties) -> Any:
        if self.named in old.get(DEFAULTED, ()):
            return old[self.named]
        return f"{name}-{hashlib.sha1(os.urandom(8)).hexdigest()[:7]}{self.name_ending}"

    def diff(self, inputs: Properties, outputs: Properties, new: Properties, cloud: Any) -> Diff:
        paths: dict[str, str] = {}
        for path, kind in differences(_given(inputs), _given(new)).items():
            key = root(path)
            if key in self.documents and _alike(inputs.get(key), new.get(key)):
                continue
            paths[path] = kind
        if self.regional and cloud is not None and outputs.get("region"):
            region = new.get("region", cloud.region)
            if region not in (UNKNOWN, outputs["region"]):
                paths["region"] = "update"
        replacing = {*self.replace_on, "region"} if self.regional else set(self.replace_on)
        marked = {path: f"{kind}-replace" if root(path) in replacing else kind for path, kind in paths.items()}
        # A name that the program chose is not free before the old one is gone.
        return Diff(marked, delete_first=bool(self.named) and self.named not in new.get(DEFAULTED, (self.named,)))


def _given(inputs: Properties) -> Properties:
    return {key: value for key, value in inputs.items() if key not in (DEFAULTED, "region")}


def _alike(old: Any, new: Any) -> bool:
    return not is_unknown(new) and document(plain(old)) == document(plain(new))
