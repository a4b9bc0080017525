"""What the engine does with a resource that the program registers: same, create, update, replace, import or read."""

import threading
import uuid
from dataclasses import dataclass, field
from typing import Any

from pulumi_cli.checkpoint import Resource
from pulumi_cli.clouds import PREFIX, is_default_provider, is_provider
from pulumi_cli.deployment import Deployment, alike, given, known, previewed, with_secrets
from pulumi_cli.problems import DeploymentFailed, NotThere
from pulumi_cli.providers import handler_of, package_of, service_of
from pulumi_cli.providers.aws import errors
from pulumi_cli.providers.handler import DEFAULTED, Diff, Handler
from pulumi_cli.steps import Step
from pulumi_cli.values import UNKNOWN, Properties, differences, is_unknown, plain, root

STACK_TYPE = "pulumi:pulumi:Stack"


@dataclass
class Goal:
    """What the program wants."""

    type: str
    name: str
    custom: bool
    inputs: Properties
    parent: str = ""
    provider: str = ""
    version: str = ""
    dependencies: list[str] = field(default_factory=list)
    property_dependencies: dict[str, list[str]] = field(default_factory=dict)
    protect: bool | None = None
    retain_on_delete: bool | None = None
    delete_before_replace: bool | None = None
    ignore_changes: list[str] = field(default_factory=list)
    replace_on_changes: list[str] = field(default_factory=list)
    additional_secret_outputs: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    deleted_with: str = ""
    import_id: str = ""


class Registrar:
    """Decides about one resource after another; the steps themselves run side by side."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._deciding = threading.RLock()
        self._last: dict[str, Step] = {}
        self._before = {old.urn: old for old in deployment.checkpoint.before if not old.delete}

    def register(self, goal: Goal) -> Resource:
        with self._deciding:
            new, steps = self._decide(goal)
            self._deployment.seen[new.urn] = new
        for step in steps:
            self._deployment.perform(step)
            self._last[new.urn] = step
        return new

    def read(self, goal: Goal, id: str) -> Resource:
        """A resource of somebody else: in the state, and never changed."""
        with self._deciding:
            old, new = self._begin(goal)
            self._deployment.seen[new.urn] = new
        new.external, new.id = True, id
        if is_unknown(id):
            return new
        handler, cloud = handler_of(goal.type, new.urn), self._deployment.clouds.of(new.provider)
        # A preview reads too: what is there is there.
        self._fetch(handler, cloud, new)
        new.outputs = with_secrets(new.outputs, new)
        same = old is not None and not differences(old.outputs, new.outputs)
        self._deployment.perform(Step("same" if same else "read", new, old, new, logical=same, gone=old))
        return new

    def outputs(self, urn: str, outputs: Properties) -> None:
        """A component says what came of it."""
        resource = self._deployment.seen.get(urn)
        if resource is None:
            raise DeploymentFailed(f"cannot complete resource '{urn}' whose registration isn't pending", urn)
        resource.outputs = outputs
        if not self._deployment.options.preview:
            self._deployment.checkpoint.save()
        self._deployment.report("resOutputsEvent", self._last[urn])

    # Deciding

    def _decide(self, goal: Goal) -> tuple[Resource, list[Step]]:
        old, new = self._begin(goal)
        if is_provider(goal.type):
            return new, self._provider(old, new)
        if not goal.custom:
            return new, self._component(old, new)
        return new, self._custom(goal, old, new)

    def _begin(self, goal: Goal) -> tuple[Resource | None, Resource]:
        urn = self.urn(goal)
        if urn in self._deployment.seen:
            raise DeploymentFailed(f"Duplicate resource URN '{urn}'; try giving it a unique name", urn)
        old = next((self._before[each] for each in (urn, *goal.aliases) if each in self._before), None)
        self._deployment.taken.add(id(old))
        parent = self._deployment.seen.get(goal.parent)
        provider = goal.provider
        if goal.custom and not provider and not is_provider(goal.type):
            provider = self._default_provider(package_of(goal.type), goal.version)
        return old, Resource(
            urn,
            goal.type,
            goal.custom,
            inputs=goal.inputs,
            parent=goal.parent,
            provider=provider,
            dependencies=sorted(goal.dependencies),
            property_dependencies=goal.property_dependencies,
            protect=_inherited(goal.protect, parent.protect if parent else False),
            retain_on_delete=_inherited(goal.retain_on_delete, parent.retain_on_delete if parent else False),
            deleted_with=goal.deleted_with,
            additional_secret_outputs=goal.additional_secret_outputs,
            ignore_changes=goal.ignore_changes,
            replace_on_changes=goal.replace_on_changes,
            created=old.created if old else "",
            modified=old.modified if old else "",
        )

    def urn(self, goal: Goal) -> str:
        chain = goal.type
        if goal.parent:
            parents = goal.parent.split("::")[2]
            if parents != STACK_TYPE:
                chain = f"{parents}${goal.type}"
        return f"urn:pulumi:{self._deployment.stack}::{self._deployment.project}::{chain}::{goal.name}"

    def _component(self, old: Resource | None, new: Resource) -> list[Step]:
        new.outputs = old.outputs if old else {}
        if old is None:
            return [Step("create", new, None, new)]
        changed = differences(old.inputs, new.inputs)
        return [Step("update" if changed else "same", new, old, new, gone=old, diffs=sorted(map(root, changed)))]

    # Providers

    def _provider(self, old: Resource | None, new: Resource) -> list[Step]:
        faults = self._deployment.clouds.configure(new)
        self._refuse(new, faults)
        if old is None:
            new.id = UNKNOWN if self._deployment.options.preview else str(uuid.uuid4())
            new.outputs = dict(new.inputs)
            return [Step("create", new, None, new)]
        new.id, new.outputs = old.id, dict(new.inputs)
        paths = differences(old.inputs, new.inputs)
        op = "update" if paths else "same"
        return [Step(op, new, old, new, gone=old, diffs=sorted(set(map(root, paths))), detailed=paths)]

    def cloud(self, token: str, provider: str, version: str) -> Any:
        """The cloud that a function of the program is asked of; None where it is not known yet."""
        with self._deciding:
            return self._deployment.clouds.of(provider or self._default_provider(package_of(token), version))

    def _default_provider(self, package: str, version: str) -> str:
        suffix = f"_{version.replace('.', '_').replace('-', '_')}" if version else ""
        config = self._deployment.config
        inputs = {key.split(":", 1)[1]: value for key, value in config.items() if key.startswith(f"{package}:")}
        inputs |= {"version": version} if version else {}
        wanted = Goal(f"{PREFIX}{package}", f"default{suffix}", True, inputs)
        urn = self.urn(wanted)
        provider = self._deployment.seen.get(urn) or self.register(wanted)
        return f"{urn}::{provider.id}"

    # Custom resources

    def _custom(self, goal: Goal, old: Resource | None, new: Resource) -> list[Step]:
        options = self._deployment.options
        handler, cloud = handler_of(goal.type, new.urn), self._deployment.clouds.of(new.provider)
        if not options.touches(new.urn):
            return self._untouched(old, new)
        if old is not None:
            new.inputs = _ignored(old.inputs, new.inputs, goal.ignore_changes)
        unchecked = new.inputs
        new.inputs, faults = handler.check(new.name, new.inputs, old.inputs if old else {}, cloud)
        self._refuse(new, faults)
        if goal.import_id and (old is None or old.id != goal.import_id):
            return [self._import(handler, cloud, old, new, goal.import_id)]
        if old is None or old.external:
            return [self._create(handler, cloud, old, new)]
        if new.urn in self._deployment.deleted_first or old.pending_replacement:
            keys = self._deployment.deleted_first.get(new.urn, [])
            return self._again(handler, cloud, old, new, Diff(dict.fromkeys(keys, "update-replace")))
        diff = self._diff(handler, cloud, goal, old, new)
        if diff.keys:
            self._refuse_protected(old, new)
            new.inputs, faults = handler.check(new.name, unchecked, {}, cloud)
            self._refuse(new, faults)
            return self._replace(handler, cloud, goal, old, new, diff)
        if diff.paths:
            return [self._update(handler, cloud, old, new, diff)]
        return [self._same(old, new)]

    def _untouched(self, old: Resource | None, new: Resource) -> list[Step]:
        """Not a target: what there is stays, what there is not is not created."""
        if old is None:
            previewed(new, None)
            return []
        new.inputs = old.inputs
        return [self._same(old, new)]

    def _same(self, old: Resource, new: Resource) -> Step:
        new.id, new.import_id = old.id, old.import_id
        new.outputs = with_secrets(old.outputs, new)
        return Step("same", new, old, new, gone=old)

    def _create(self, handler: Handler, cloud: Any, old: Resource | None, new: Resource) -> Step:
        if self._deployment.options.preview:
            previewed(new, None)
        return Step("create", new, None, new, gone=old, act=lambda: self._deployment.create(handler, cloud, new))

    def _update(self, handler: Handler, cloud: Any, old: Resource, new: Resource, diff: Diff) -> Step:
        new.id, new.import_id = old.id, old.import_id
        if self._deployment.options.preview:
            previewed(new, old)

        def act() -> None:
            self._deployment.update(handler, cloud, old, new)

        return Step("update", new, old, new, diffs=diff.changed, detailed=diff.paths, act=act, gone=old)

    def _diff(self, handler: Handler, cloud: Any, goal: Goal, old: Resource, new: Resource) -> Diff:
        diff = handler.diff(old.inputs, old.outputs, new.inputs, cloud)
        paths = dict(diff.paths)
        for path, kind in diff.paths.items():
            if not kind.endswith("-replace") and any(_within(path, each) for each in goal.replace_on_changes):
                paths[path] = f"{kind}-replace"
        if _another_provider(old.provider, new.provider):
            paths["provider"] = "update-replace"
        if new.urn in self._deployment.options.replace:
            paths.setdefault("id", "update-replace")
        return Diff(paths, diff.delete_first)

    # Replacements

    def _replace(
        self, handler: Handler, cloud: Any, goal: Goal, old: Resource, new: Resource, diff: Diff
    ) -> list[Step]:
        first = diff.delete_first if goal.delete_before_replace is None else goal.delete_before_replace
        if first:
            return [*self._delete_first(old), *self._again(handler, cloud, old, new, diff)]

        def act() -> None:
            self._deployment.create(handler, cloud, new)
            old.delete = True

        if self._deployment.options.preview:
            previewed(new, None)
        about: dict[str, Any] = {"keys": diff.keys, "diffs": diff.changed, "detailed": diff.paths}
        return [
            Step("create-replacement", new, old, new, logical=False, act=act, **about),
            Step("replace", new, old, new, **about),
        ]

    def _again(self, handler: Handler, cloud: Any, old: Resource, new: Resource, diff: Diff) -> list[Step]:
        """Replace what is deleted already."""
        if self._deployment.options.preview:
            previewed(new, None)
        about: dict[str, Any] = {"keys": diff.keys, "diffs": diff.changed, "detailed": diff.paths}

        def act() -> None:
            self._deployment.create(handler, cloud, new)

        return [
            Step("replace", new, old, new, **about),
            Step("create-replacement", new, old, new, logical=False, act=act, gone=old, **about),
        ]

    def _delete_first(self, old: Resource) -> list[Step]:
        """Delete a resource that is replaced, and before it what would be replaced because of it."""
        steps = []
        for dependent, keys in reversed(self._replaced_with(old)):
            if dependent.protect:
                raise DeploymentFailed(
                    f'unable to replace resource "{dependent.urn}" as part of replacing "{old.urn}" as it is currently '
                    "marked for protection. To unprotect the resource, remove the `protect` flag from the resource in "
                    "your Pulumi program and run `pulumi up`, or use the command:\n"
                    f'`pulumi state unprotect "{dependent.urn}"`',
                    old.urn,
                )
            self._deployment.deleted_first[dependent.urn] = keys
            steps.append(self._delete_replaced(dependent))
        return [*steps, self._delete_replaced(old)]

    def _delete_replaced(self, old: Resource) -> Step:
        handler, cloud = handler_of(old.type, old.urn), self._deployment.clouds.of(old.provider)

        def act() -> None:
            if not old.retain_on_delete:
                self._deployment.delete(handler, cloud, old)
            old.pending_replacement = True

        return Step("delete-replaced", old, old, None, logical=False, act=act)

    def _replaced_with(self, replaced: Resource) -> list[tuple[Resource, list[str]]]:
        """The resources that a replacement replaces too: one of their properties comes from it, and forces that."""
        urns, found = {replaced.urn}, []
        for old in self._before.values():
            if not old.custom or is_provider(old.type) or old.urn in urns or old.external:
                continue
            if old.urn in self._deployment.deleted_first or old.urn in self._deployment.seen:
                continue
            lost = [key for key, needs in old.property_dependencies.items() if urns & set(needs)]
            if not lost:
                continue
            unclear = old.inputs | {key: UNKNOWN for key in lost if key in old.inputs}
            handler, cloud = handler_of(old.type, old.urn), self._deployment.clouds.of(old.provider)
            keys = handler.diff(old.inputs, old.outputs, unclear, cloud).keys
            if keys:
                urns.add(old.urn)
                found.append((old, keys))
        return found

    def _refuse_protected(self, old: Resource, new: Resource) -> None:
        if not (old.protect and new.protect):
            return
        failure = DeploymentFailed(
            f'unable to replace resource "{new.urn}"\nas it is currently marked for protection. To unprotect the '
            "resource, remove the `protect` flag from the resource in your Pulumi program and run `pulumi up`",
            new.urn,
        )
        if not self._deployment.options.preview:
            raise failure
        # A preview goes on, to show all there is.
        self._deployment.events.diagnostic("error", str(failure), new.urn)
        self._deployment.failed = True

    # Imports and reads

    def _import(self, handler: Handler, cloud: Any, old: Resource | None, new: Resource, id: str) -> Step:
        wanted, new.id, new.import_id = new.inputs, id, id
        self._fetch(handler, cloud, new)
        different = sorted(
            key
            for key, value in given(wanted).items()
            if key in new.outputs and not alike(value, new.outputs[key]) and differences(value, plain(new.outputs[key]))
        )
        if different:
            message = "inputs to import do not match the existing resource"
            if not self._deployment.options.preview:
                raise DeploymentFailed(message, new.urn)
            shown = f"{message}; importing this resource will fail"
            self._deployment.events.diagnostic("warning", shown, new.urn)
        new.inputs = wanted
        new.outputs = with_secrets(new.outputs, new)
        return Step("import", new, old, new, gone=old, diffs=different, act=lambda: None)

    def _fetch(self, handler: Handler, cloud: Any, new: Resource) -> None:
        with errors(f"reading {handler.noun} ({new.id})", service_of(new.type)):
            found = handler.read(cloud, new.id, known(new))
        if found is None:
            raise DeploymentFailed(str(NotThere(f"resource '{new.id}' does not exist")), new.urn)
        inputs = {key: value for key, value in new.inputs.items() if key != DEFAULTED}
        new.outputs = {**inputs, **found}

    def _refuse(self, new: Resource, faults: list[str]) -> None:
        for fault in faults[:-1]:
            self._deployment.events.diagnostic("error", _problem(new, fault), new.urn)
        if faults:
            raise DeploymentFailed(_problem(new, faults[-1]), new.urn)


def _problem(resource: Resource, fault: str) -> str:
    return f"{resource.type} resource '{resource.name}' has a problem: {fault}"


def _inherited(given: bool | None, parents: bool) -> bool:
    return parents if given is None else given


def _another_provider(old: str, new: str) -> bool:
    """Default providers of two versions are one to a resource."""
    (before, before_id), (after, after_id) = old.rsplit("::", 1), new.rsplit("::", 1)
    if all(is_default_provider(Resource(urn, urn.split("::")[2], True)) for urn in (before, after)):
        return False
    return before != after or (after_id != UNKNOWN and before_id != after_id)


def _within(path: str, wanted: str) -> bool:
    return wanted == "*" or path == wanted or path.startswith((f"{wanted}.", f"{wanted}["))


def _ignored(old: Properties, new: Properties, paths: list[str]) -> Properties:
    """New inputs with the old values at the paths to ignore: properties, and keys of mappings in them."""
    kept = dict(new)
    for path in paths:
        key, _, rest = path.partition(".")
        if path == "*":
            return dict(old)
        if rest and isinstance(kept.get(key), dict) and isinstance(old.get(key), dict):
            kept[key] = _ignored(old[key], kept[key], [rest])
        elif key in old:
            kept[key] = old[key]
        else:
            kept.pop(key, None)
    return kept
