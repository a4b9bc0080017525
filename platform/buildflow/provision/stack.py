"""One stack's infrastructure: what is declared against what there is, and how one becomes the other.

What drivers create themselves is `provision.apply`'s; what is declared to a cloud is `provision.cloud`'s. Both are
recorded in the stack's folder, and shown as one ChangeSet.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildflow.ir.changes import ChangeSet, ResourceChange
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.ir.runtime import RuntimePlan
from buildflow.primitives.registry import is_declared
from buildflow.provision import apply as direct
from buildflow.provision import changes as directly
from buildflow.provision import state as states
from buildflow.provision.bindings import binding_words, changed_bindings
from buildflow.provision.state import State

if TYPE_CHECKING:  # a local stack has no use for it
    from buildflow.provision.cloud.engine import Engine
    from buildflow.provision.cloud.steps import Step, Steps

Told = Callable[[ResourceChange, bool], None]
"""Told of each change when it begins (False) and when it is made (True)."""


@dataclass(frozen=True)
class Drift:
    """What became of a resource outside of the platform. `fields` are empty when it is gone."""

    key: str
    label: str
    id: str
    fields: tuple[str, ...] = ()


class Infrastructure:
    """A stack's infrastructure. `sessions` gives a provider's session, `engine` the cloud's engine: it is asked for
    where something is declared to a cloud, or was. `apply` and `destroy` make the changes that were shown last, those
    `to_apply`; call them under the stack's lock."""

    def __init__(
        self,
        graph: ResourceGraph,
        plan: RuntimePlan,
        folder: Path,
        sessions: Callable[[str], Any],
        engine: "Callable[[], Engine]",
    ) -> None:
        self.graph = graph
        self.plan = plan
        self.folder = folder
        self.sessions = sessions
        self._open_engine = engine
        self._previewed: Any = None
        """The engine's steps behind the changes that were shown last."""

    @property
    def state(self) -> State:
        return states.load(self.folder)

    @cached_property
    def _engine(self) -> "Engine":
        return self._open_engine()

    def changes(self, *, to_apply: bool = False) -> ChangeSet:
        """All that `apply` would do. Those `to_apply` are made as they are shown, or not at all."""
        state = self._seen()
        found = list(directly.diff(self.graph, state, self.sessions).changes)
        permissions: tuple[str, ...] = ()
        if self._has_cloud(state):
            self._previewed = self._engine.preview_up() if to_apply else self._engine.preview()
            self._refuse_to_overwrite(state)
            self._refuse_taken()
            found += self._of_cloud(self._previewed, state)
            found += self._declared_anew(state, {change.key for change in found})
            permissions = self._permission_changes(state)
            permissions += self._role_changes(permissions)
        return ChangeSet(
            project=self.graph.project,
            stack=self.graph.stack,
            changes=tuple(sorted(found, key=self._place)),
            permissions=permissions,
            bindings=tuple(changed_bindings(state.bindings, binding_words(self.plan))),
        )

    def destruction(self) -> ChangeSet:
        """The deletion of everything that is recorded."""
        state = self._seen()
        permissions: tuple[str, ...] = ()
        found = list(directly.destruction(state, self.graph.project, self.graph.stack, self.sessions).changes)
        protected = [_deletion(r) for r in state.resources.values() if _is_protected(r)]
        if protected:  # the engine would refuse to think of it
            found += protected
        elif self._has_cloud(state):
            self._previewed = self._engine.preview_destroy()
            self._refuse_to_overwrite(state)
            found += self._of_cloud(self._previewed, state)
            permissions = self._role_changes(())
        return ChangeSet(
            project=self.graph.project, stack=self.graph.stack, changes=tuple(found), permissions=permissions
        )

    def apply(self, changes: ChangeSet, told: Told) -> None:
        """Make all changes; what was made stays recorded when a later one fails."""
        if self._has_cloud(self.state):
            try:
                self._engine.up(_watch(changes, self._previewed, told))
            except BaseException:
                self.record(applied=False)
                raise
            self.record(applied=True)
        direct.apply(_without_cloud(changes), self.folder, self.sessions, lambda change: told(change, True))
        self._record_plan()

    def adopt(self) -> None:
        """Record what is there already, though nothing was to be done: another machine may have made it, and a
        change of what is bound to it changes nothing of it."""
        self.record(applied=True)
        self._record_plan()

    def destroy(self, changes: ChangeSet, told: Told) -> None:
        """Delete everything, what rests on the cloud's before that."""
        if self._has_cloud(self.state):
            self._engine.refuse_other_state()
        direct.apply(_without_cloud(changes), self.folder, self.sessions, lambda change: told(change, True))
        if self._has_cloud(self.state):
            try:
                self._engine.destroy(_watch(changes, self._previewed, told))
            finally:
                self.record(applied=False)
        state = self.state
        state.permissions, state.bindings = {}, None
        states.save(self.folder, state)

    def refresh(self) -> list[Drift]:
        """Read everything anew, and record what is there; what is gone is created by the next `apply`."""
        state = self.state
        found = [_gone(r) for r in state.resources.values() if self._is_gone(r)]
        for drift in found:
            state.resources.pop(drift.key)
        states.save(self.folder, state)
        if self._has_cloud(state):
            steps = self._engine.refresh()
            found += _drifts(steps, state)
            self.record(applied=False)
        return found

    def record(self, *, applied: bool) -> None:
        """Write down what the cloud holds of this stack, with its outputs: other machines' work included. What is
        declared counts once it was `applied`; until then, what was."""
        state = self.state
        if not self._has_cloud(state):
            return
        outputs = self._engine.outputs()
        for key in [k for k, r in state.resources.items() if is_declared(r.type, r.provider) and k not in outputs]:
            state.resources.pop(key)
        for key, values in outputs.items():
            first, second = (self.graph.by_key, state.resources) if applied else (state.resources, self.graph.by_key)
            resource = first.get(key) or second.get(key)
            if resource is not None:
                state.resources[key] = resource.model_copy(update={"outputs": values})
        states.save(self.folder, state)

    def unlock(self) -> None:
        """Break the lock that a command left which is gone."""
        if self._has_cloud(self.state):
            self._engine.cancel()

    def _has_cloud(self, state: State) -> bool:
        resources: Iterable[Resource] = (*self.graph.resources, *state.resources.values())
        return any(is_declared(r.type, r.provider) for r in resources)

    def _seen(self) -> State:
        """What is recorded; on a machine where nothing of the cloud is, what the engine knows."""
        state = self.state
        recorded = any(is_declared(r.type, r.provider) for r in state.resources.values())
        if not recorded and self._has_cloud(state):
            for key, values in self._engine.outputs().items():
                if key in self.graph:
                    state.resources[key] = self.graph[key].model_copy(update={"outputs": values})
        return state

    def _of_cloud(self, steps: "Steps", state: State) -> list[ResourceChange]:
        from buildflow.provision.cloud.changes import resource_changes

        return list(resource_changes(steps, self.graph, state, self.sessions))

    def _refuse_to_overwrite(self, state: State) -> None:
        from buildflow.provision.cloud.notifications import changed_buckets, refuse_to_overwrite

        known = [*state.resources.values(), *self.graph.resources]
        if buckets := changed_buckets(self._previewed, known):
            refuse_to_overwrite(buckets, known, self._engine.outputs(), self.sessions("aws"))

    def _refuse_taken(self) -> None:
        from buildflow.provision.cloud.taken import refuse_taken

        refuse_taken(self._previewed, self.sessions("aws"), self._engine.begun)

    def _declared_anew(self, state: State, changed: set[str]) -> list[ResourceChange]:
        """What is declared otherwise and is the same to the cloud: its protection, what its messages are."""
        return [
            ResourceChange(
                verb="update",
                key=new.key,
                label=new.label,
                id=new.id,
                old=old,
                new=new,
                fields=tuple(directly.differs(old, new)),
            )
            for key, new in self.graph.by_key.items()
            if key not in changed and (old := state.resources.get(key)) is not None
            if is_declared(new.type, new.provider) and directly.declared(old) != directly.declared(new)
        ]

    def _permissions(self) -> dict[str, list[str]]:
        from buildflow.provision.cloud.identities import identities, permissions

        return permissions(identities(self.plan, self.graph))

    def _permission_changes(self, state: State) -> tuple[str, ...]:
        from buildflow.provision.cloud.identities import permission_changes

        return permission_changes(state.permissions, self._permissions())

    def _role_changes(self, told: tuple[str, ...]) -> tuple[str, ...]:
        """What becomes of the roles themselves, where no sentence tells of them yet: others may have changed one, or
        what it is for has another ARN."""
        from buildflow.provision.cloud.changes import verb_of
        from buildflow.provision.cloud.identities import identities, role_changes
        from buildflow.provision.cloud.steps import IDENTITY

        roles = {key: own for (key, label), own in self._previewed.by_component().items() if label == IDENTITY}
        used = {i.key: {grant.of for grant in i.grants} for i in identities(self.plan, self.graph)}
        anew = {step.owner for step in self._previewed.found.values() if step.is_main and step.verb}
        return tuple(
            words
            for key, steps in roles.items()
            if (verb := verb_of(steps)) and not any(t.startswith(f"{key} ") for t in told)
            for words in role_changes(key, verb, steps, sorted(anew & used.get(key, set())))
        )

    def _record_plan(self) -> None:
        """Who may do what, and what runs, for the next `plan` to compare."""
        state = self.state
        state.permissions = self._permissions() if self._has_cloud(state) else {}
        state.bindings = binding_words(self.plan)
        states.save(self.folder, state)

    def _is_gone(self, resource: Resource) -> bool:
        if is_declared(resource.type, resource.provider) or not resource.managed:
            return False
        from buildflow.primitives.registry import driver

        return not driver(resource.type, resource.provider).exists(resource, self.sessions(resource.provider))

    def _place(self, change: ResourceChange) -> int:
        """Deletes first, then as in the graph."""
        keys = [r.key for r in self.graph.resources]
        return keys.index(change.key) if change.verb != "delete" and change.key in keys else -1


def _is_protected(resource: Resource) -> bool:
    """Whether it is the cloud's, and not to be deleted."""
    declared = is_declared(resource.type, resource.provider) and resource.managed
    return declared and bool(resource.spec.get("deletion_protection"))


def _deletion(resource: Resource) -> ResourceChange:
    return ResourceChange(verb="delete", key=resource.key, label=resource.label, id=resource.id, old=resource)


def _without_cloud(changes: ChangeSet) -> ChangeSet:
    kept = tuple(c for c in changes.changes if not _is_cloud(c))
    return changes.model_copy(update={"changes": kept, "permissions": ()})


def _is_cloud(change: ResourceChange) -> bool:
    resource = change.new or change.old
    return resource is None or is_declared(resource.type, resource.provider)  # only another machine's has neither


def _watch(changes: ChangeSet, previewed: "Steps", told: Told) -> "Callable[[Step, bool], None]":
    """Tell of a primitive when the first of its resources is begun, and when the last one is made."""
    waited = {(c.key, c.label): c for c in changes.changes if _is_cloud(c)}
    left = {o: {s.urn for s in steps if s.verb and not s.is_component} for o, steps in previewed.by_component().items()}
    begun: set[tuple[str, str]] = set()

    def watch(step: "Step", done: bool) -> None:
        owner = (step.owner, step.label)
        urns = left.get(owner)
        if owner not in waited or urns is None or step.urn not in urns:
            return
        if owner not in begun:
            begun.add(owner)
            told(waited[owner], False)
        if done:  # with no verb where what the preview could not know is as it was
            urns.discard(step.urn)
            if not urns:
                told(waited[owner], True)

    return watch


def _gone(resource: Resource) -> Drift:
    return Drift(resource.key, resource.label, resource.id)


def _drifts(steps: "Steps", state: State) -> Iterable[Drift]:
    for (key, label), found in steps.by_component().items():
        changed = [s for s in found if s.verb in ("update", "delete") and not s.is_component]
        if not changed:
            continue
        resource = state.resources.get(key)
        id = resource.id if resource else key
        if any(s.verb == "delete" and s.is_main for s in changed):
            yield Drift(key, label, id)
            continue
        fields = [
            *(f if s.is_main else f"{s.noun}.{f}" for s in changed for f in s.fields),
            *(f"{s.noun}: gone" for s in changed if s.verb == "delete"),
        ]
        yield Drift(key, label, id, tuple(fields) or ("changed",))
