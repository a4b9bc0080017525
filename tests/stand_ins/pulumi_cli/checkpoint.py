"""What a stack's file holds: its resources, and the operations that had begun when it was written."""

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pulumi_cli.values import Properties, revealed, sealed, unsealed


@dataclass(eq=False)
class Resource:
    """The state of one resource."""

    urn: str
    type: str
    custom: bool
    inputs: Properties = field(default_factory=dict)
    outputs: Properties = field(default_factory=dict)
    id: str = ""
    parent: str = ""
    provider: str = ""
    dependencies: list[str] = field(default_factory=list)
    property_dependencies: dict[str, list[str]] = field(default_factory=dict)
    protect: bool = False
    external: bool = False
    """It was read, and is not ours to change."""
    delete: bool = False
    """It was replaced and is still to be deleted."""
    pending_replacement: bool = False
    """It was deleted and is still to be created again."""
    retain_on_delete: bool = False
    deleted_with: str = ""
    additional_secret_outputs: list[str] = field(default_factory=list)
    ignore_changes: list[str] = field(default_factory=list)
    replace_on_changes: list[str] = field(default_factory=list)
    import_id: str = ""
    created: str = ""
    modified: str = ""

    @property
    def name(self) -> str:
        return self.urn.rsplit("::", 1)[1]

    def needs(self) -> set[str]:
        """The URNs that must be there before it."""
        found = {self.parent, self.deleted_with, self.provider.rpartition("::")[0], *self.dependencies}
        return found.union(*self.property_dependencies.values()) - {""}


FIELDS = {  # the name of each field in the file
    "urn": "urn",
    "custom": "custom",
    "delete": "delete",
    "id": "id",
    "type": "type",
    "inputs": "inputs",
    "outputs": "outputs",
    "parent": "parent",
    "protect": "protect",
    "external": "external",
    "dependencies": "dependencies",
    "provider": "provider",
    "property_dependencies": "propertyDependencies",
    "pending_replacement": "pendingReplacement",
    "additional_secret_outputs": "additionalSecretOutputs",
    "import_id": "importID",
    "retain_on_delete": "retainOnDelete",
    "deleted_with": "deletedWith",
    "created": "created",
    "modified": "modified",
    "ignore_changes": "ignoreChanges",
    "replace_on_changes": "replaceOnChanges",
}


def to_json(resource: Resource, guard: Callable[[Any], Any]) -> dict[str, Any]:
    """`guard` says what becomes of secrets: `sealed` or `revealed`."""
    given = {name: getattr(resource, field) for field, name in FIELDS.items()}
    kept = {name: value for name, value in given.items() if value or name in ("custom", "urn", "type")}
    return kept | {name: guard(kept[name]) for name in ("inputs", "outputs") if name in kept}


def from_json(data: dict[str, Any], decrypt: Callable[[str], str]) -> Resource:
    given = {field: data[name] for field, name in FIELDS.items() if name in data}
    for name in ("inputs", "outputs"):
        given[name] = unsealed(given.get(name, {}), decrypt)
    return Resource(**given)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Checkpoint:
    """The resources of one deployment: those from before that nothing happened to yet, and those that are new.

    It is written at the begin and the end of every operation, so that a process that is killed leaves behind what it
    had done and what it was about to do."""

    def __init__(
        self,
        stack: str,
        deployment: dict[str, Any],
        secrets: Any,
        write: Callable[[str], None],
    ) -> None:
        def decrypt(text: str) -> str:
            return str(secrets().decrypt(text))

        self.stack = stack
        self.before = [from_json(data, decrypt) for data in deployment.get("resources", [])]
        self.interrupted = [
            (from_json(operation["resource"], decrypt), str(operation["type"]))
            for operation in deployment.get("pending_operations", [])
        ]
        self._secrets = secrets
        self._state = (deployment.get("secrets_providers") or {}).get("state")
        self._write = write
        self._gone: set[int] = set()
        self._new: list[Resource] = []
        self._pending: list[tuple[Resource, str]] = []
        self._kept: dict[int, tuple[Any, ...]] = {}
        self._lock = threading.RLock()

    @property
    def resources(self) -> list[Resource]:
        """What there is now, each behind what it depends on."""
        with self._lock:
            return [*self._new, *(resource for resource in self.before if id(resource) not in self._gone)]

    def begin(self, resource: Resource, operation: str) -> None:
        with self._lock:
            self._pending.append((resource, operation))
            self.save()

    def end(self, resource: Resource | None, *, gone: Resource | None = None, new: Resource | None = None) -> None:
        """`resource` is that of `begin`; `gone` leaves the state and `new` enters it."""
        with self._lock:
            self._pending = [entry for entry in self._pending if entry[0] is not resource]
            if gone is not None:
                self._gone.add(id(gone))
            if new is not None:
                self._new.append(new)
            if resource is not None:
                self.save()

    def save(self) -> None:
        with self._lock:
            self._write(json.dumps(checkpoint_file(self.stack, self.deployment(self._sealed))))

    def deployment(self, as_json: Callable[[Resource], dict[str, Any]]) -> dict[str, Any]:
        # An interrupted creation stays until somebody says what became of it; other operations are known by a read.
        creations = [entry for entry in self.interrupted if entry[1] == "creating"]
        operations = [{"resource": as_json(old), "type": kind} for old, kind in (*self._pending, *creations)]
        return new_deployment(self._salt(), [as_json(resource) for resource in self.resources], operations)

    def _salt(self) -> str:
        return self._state["salt"] if self._state else self._secrets().salt

    def _sealed(self, resource: Resource) -> dict[str, Any]:
        """Kept from write to write, as long as nothing of the resource is another."""
        parts = (resource.inputs, resource.outputs, resource.id, resource.delete, resource.pending_replacement)
        *before, data = self._kept.get(id(resource), (None,))
        if len(before) != len(parts) or any(one is not other for one, other in zip(before, parts, strict=True)):
            data = to_json(resource, lambda value: sealed(value, lambda text: str(self._secrets().encrypt(text))))
            self._kept[id(resource)] = (*parts, data)
        return data


def shown(deployment: dict[str, Any], decrypt: Callable[[str], str]) -> dict[str, Any]:
    """A deployment with its secrets in clear, as `stack export --show-secrets` prints it."""
    resources = [to_json(from_json(data, decrypt), revealed) for data in deployment.get("resources", [])]
    operations = [
        {**operation, "resource": to_json(from_json(operation["resource"], decrypt), revealed)}
        for operation in deployment.get("pending_operations", [])
    ]
    return deployment | {"resources": resources, "pending_operations": operations}


def new_deployment(
    salt: str, resources: Iterable[dict[str, Any]] = (), operations: Iterable[dict[str, Any]] = ()
) -> dict[str, Any]:
    return {
        "manifest": {"time": now(), "magic": "", "version": ""},
        "secrets_providers": {"type": "passphrase", "state": {"salt": salt}},
        "resources": list(resources),
        "pending_operations": list(operations),
        "metadata": {},
    }


def checkpoint_file(stack: str, deployment: dict[str, Any]) -> dict[str, Any]:
    return {"version": 3, "checkpoint": {"stack": stack, "latest": deployment}}
