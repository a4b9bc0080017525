"""What Pulumi's engine reports, gathered by the primitive that it is about."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from buildflow.ir.changes import Verb

COMPONENT = "buildflow:"
"""What the types of components begin with: `buildflow:aws:S3Bucket`."""

_PROVIDER = "pulumi:providers:"

IDENTITY = "Identity"
"""The label of what is a role, and no primitive."""

BUCKET, QUEUE, INSTANCE = "aws:s3/bucket:Bucket", "aws:sqs/queue:Queue", "aws:rds/instance:Instance"

MAIN = (BUCKET, QUEUE, INSTANCE, "aws:sns/topic:Topic", "aws:iam/role:Role")
"""What a component is for, where it bears the component's own key: what else is in it serves that."""

_VERBS: dict[str, Verb] = {
    "create": "create",
    "import": "create",
    "update": "update",
    "replace": "replace",
    "create-replacement": "replace",
    "delete-replaced": "replace",
    "delete": "delete",
}
_UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""What stands for a value that a preview cannot know. Source: `UnknownStringValue` of pulumi's sdk/go"""
_LATER = "(known after apply)"
_LONGEST = 60
"""Characters of a value in a change; a policy document is longer, and told to have changed."""


@dataclass(frozen=True)
class Step:
    """What becomes of one resource of the cloud. `owner` is the key of its component, "" for what belongs to none."""

    urn: str
    type: str
    owner: str
    label: str
    verb: Verb | None
    """None where it stays as it is."""
    fields: tuple[str, ...] = ()
    before: Mapping[str, Any] = field(default_factory=dict, compare=False)
    after: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Its properties, as far as they are known: what it is, and what it is to be."""

    @property
    def is_main(self) -> bool:
        """Whether it is what its component is for."""
        return self.type in MAIN and name_of(self.urn) == self.owner

    @property
    def is_component(self) -> bool:
        return self.type.startswith(COMPONENT)

    @property
    def noun(self) -> str:
        """Its type in a word: `QueuePolicy`."""
        return self.type.rpartition(":")[2]


@dataclass
class Steps:
    """The steps of one preview or update, by URN, in the order in which the engine took them up."""

    found: dict[str, Step] = field(default_factory=dict)
    _owners: dict[str, tuple[str, str]] = field(default_factory=dict)
    _regions: dict[str, str] = field(default_factory=dict)
    """The region of each provider, by URN."""

    def add(self, metadata: Any) -> Step:
        """The step that an event's metadata tells of. A replacement comes as several; the gravest counts."""
        step = self._read(metadata)
        before = self.found.get(step.urn)
        if before is not None and before.verb is not None and step.verb != "replace":
            step = replace(before, fields=before.fields or step.fields)
        elif before is not None:
            step = replace(
                step,
                fields=step.fields or before.fields,
                before=step.before or before.before,
                after=step.after or before.after,
            )
        self.found[step.urn] = step
        return step

    def by_component(self) -> dict[tuple[str, str], list[Step]]:
        """Each component's steps, its own and its children's, by its key and label, in order."""
        grouped: dict[tuple[str, str], list[Step]] = {}
        for step in self.found.values():
            if step.owner:
                grouped.setdefault((step.owner, step.label), []).append(step)
        return grouped

    def _read(self, metadata: Any) -> Step:
        owner, label = self._owner(metadata)
        operation = str(getattr(metadata.op, "value", metadata.op))
        before, after = _state(metadata.old), _state(metadata.new)
        if metadata.type.startswith(_PROVIDER):
            self._regions[metadata.urn] = str(after.get("region", ""))
        elif metadata.new:  # where nothing else is said, a resource is in its provider's region
            own = (metadata.new.inputs or {}).get("region")
            providers = self._regions.get((metadata.new.provider or "").rpartition("::")[0])
            after = {**after, "region": own or providers or after.get("region")}
        return Step(
            urn=metadata.urn,
            type=metadata.type,
            owner=owner,
            label=label,
            verb=_VERBS.get(operation),
            fields=tuple(_changed(metadata, before, after)),
            before=before,
            after=after,
        )

    def _owner(self, metadata: Any) -> tuple[str, str]:
        """The component that a resource is, or is in."""
        if metadata.type.startswith(COMPONENT):
            self._owners[metadata.urn] = (name_of(metadata.urn), metadata.type.rpartition(":")[2])
        else:
            state = metadata.new or metadata.old
            parent = state.parent if state else ""
            self._owners[metadata.urn] = self._owners.get(parent) or _component_of(parent)
        return self._owners[metadata.urn]


def name_of(urn: str) -> str:
    return urn.rpartition("::")[2]


def _component_of(urn: str) -> tuple[str, str]:
    """Of a parent that no event told of, its URN alone."""
    type = urn.split("::")[2].rpartition("$")[2] if urn.count("::") >= 3 else ""
    return (name_of(urn), type.rpartition(":")[2]) if type.startswith(COMPONENT) else ("", "")


def _changed(metadata: Any, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """The properties that differ, with their values before and after where these are short."""
    paths = list(metadata.detailed_diff or {}) or list(metadata.diffs or ())
    for path in dict.fromkeys(paths):
        old, new = _value(before, path), _value(after, path)
        if old == new or len(old) + len(new) > _LONGEST:
            yield f"{path}: changed"
        else:
            yield f"{path}: {old} -> {new}"


def _state(state: Any) -> Mapping[str, Any]:
    """What is known of a resource: what the provider told of it, and what was asked for."""
    return {**(state.outputs or {}), **(state.inputs or {})} if state else {}


def _value(inputs: Mapping[str, Any], path: str) -> str:
    """A property as text; `path` is Pulumi's: `rules[0].transition`, `tags["a.b"]`."""
    value: Any = inputs
    for part in _parts(path):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            value = None
    if value is None:
        return "(none)"
    if value == _UNKNOWN:
        return _LATER
    return value if isinstance(value, str) else json.dumps(value)


def _parts(path: str) -> list[str]:
    return [
        part for part in path.replace('["', ".").replace('"]', "").replace("[", ".").replace("]", "").split(".") if part
    ]
