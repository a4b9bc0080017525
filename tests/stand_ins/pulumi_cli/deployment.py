"""A deployment: one run of the engine over a stack, step by step."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from pulumi_cli.checkpoint import Checkpoint, Resource, now
from pulumi_cli.clouds import Clouds, is_provider
from pulumi_cli.events import Events
from pulumi_cli.hold import hold
from pulumi_cli.plan import Plan
from pulumi_cli.problems import DeploymentFailed, ProviderFailed
from pulumi_cli.providers import service_of
from pulumi_cli.providers.aws import errors
from pulumi_cli.providers.handler import DEFAULTED, Handler
from pulumi_cli.steps import PENDING, Step
from pulumi_cli.values import Properties, Secret, document, is_secret, plain

PENDING_WARNING = (
    "These resources are in an unknown state because the Pulumi CLI was interrupted while "
    "waiting for changes to these resources to complete. You should confirm whether or not the "
    "operations listed completed successfully by checking the state of the appropriate provider. "
    "For example, if you are using AWS, you can confirm using the AWS Console.\n"
    "\n"
    "Once you have confirmed the status of the interrupted operations, you can repair your stack "
    "using `pulumi refresh` which will refresh the state from the provider you are using and "
    "clear the pending operations if there are any.\n"
    "\n"
    "Note that `pulumi refresh` will need to be run interactively to clear pending CREATE operations."
)


@dataclass(frozen=True)
class Options:
    """What the command line asks of a deployment."""

    preview: bool = False
    parallel: int = 16
    targets: frozenset[str] = frozenset()
    excludes: frozenset[str] = frozenset()
    dependents: bool = False
    replace: frozenset[str] = frozenset()
    refresh: bool = False
    continue_on_error: bool = False
    exclude_protected: bool = False

    def touches(self, urn: str) -> bool:
        return (not self.targets or urn in self.targets) and urn not in self.excludes


@dataclass
class Deployment:
    """What all parts of a deployment share: registering, deleting, refreshing."""

    project: str
    stack: str
    config: Properties
    options: Options
    checkpoint: Checkpoint
    events: Events
    allowed: Plan | None = None
    """The plan to keep to."""
    planned: Plan = field(default_factory=Plan)
    """What it does, as a plan."""
    seen: dict[str, Resource] = field(default_factory=dict)
    """Everything that the program has registered or read."""

    def __post_init__(self) -> None:
        self.taken: set[int] = set()  # the states from before that the program goes on with
        self.counts: Counter[str] = Counter()
        self.failed = False
        self.cancelled = threading.Event()
        self.clouds = Clouds(self._in_state)
        self.deleted_first: dict[str, list[str]] = {}
        self.began = time.monotonic()
        self._slots = threading.BoundedSemaphore(max(1, min(self.options.parallel, 32)))
        self._counting = threading.Lock()

    def _in_state(self, urn: str) -> Resource | None:
        return next((resource for resource in self.checkpoint.resources if resource.urn == urn), None)

    # Beginning and end

    def begin(self) -> None:
        self.events.send("preludeEvent", {"config": plain_config(self.config)})
        interrupted = self.checkpoint.interrupted
        if interrupted:
            listed = "".join(f"  * {old.urn}, interrupted while {kind}\n" for old, kind in interrupted)
            self.events.diagnostic(
                "warning",
                f"Attempting to deploy or update resources with {len(interrupted)} pending operations from previous "
                f"deployment.\n{listed}{PENDING_WARNING}",
            )

    def finish(self, kind: str) -> None:
        if self.cancelled.is_set() and not self.failed:
            self.fail(DeploymentFailed(f"{kind} canceled"))
        elif self.failed:
            self.events.diagnostic("error", f"{kind} failed")
        self.events.send(
            "summaryEvent",
            {
                "maybeCorrupt": False,
                "durationSeconds": int(time.monotonic() - self.began),
                "resourceChanges": dict(self.counts),
                "PolicyPacks": {},
                "isPreview": self.options.preview,
            },
        )
        self.events.send("cancelEvent", {})
        if not self.options.preview:
            self.checkpoint.save()

    def fail(self, failure: DeploymentFailed) -> None:
        self.failed = True
        if str(failure):
            self.events.diagnostic("error", str(failure), failure.urn)
        if not self.options.continue_on_error:
            self.cancelled.set()

    # Steps

    def perform(self, step: Step) -> None:
        """Do a step, or only show it in a preview."""
        with self._slots:
            if step.reported:
                if self.allowed is not None:
                    self.allowed.allow(step)
                self.planned.add(step)
                self.report("resourcePreEvent", step)
            if not self.options.preview:
                self._do(step)
            if step.reported:
                self.report("resOutputsEvent", step)
                self.count(step)

    def _do(self, step: Step) -> None:
        pending = PENDING.get(step.op) if step.act else None
        if pending:
            self.checkpoint.begin(step.resource, pending)
        try:
            if step.act:
                hold("before", step.resource.type, step.resource.urn)
                step.act()
                hold("after", step.resource.type, step.resource.urn)
        except ProviderFailed as failure:
            self.checkpoint.end(step.resource)
            self.events.diagnostic("error", f"1 error occurred:\n\t* {failure}\n\n", step.resource.urn)
            self.events.send("resOpFailedEvent", {"metadata": step.metadata(), "status": 0, "steps": 0})
            self.failed = True
            if not self.options.continue_on_error:
                self.cancelled.set()
            raise DeploymentFailed("", step.resource.urn) from failure
        if step.op != "replace":  # which is only said, between what deletes and what creates
            self.checkpoint.end(step.resource if pending else None, gone=step.gone, new=step.new)

    def report(self, kind: str, step: Step, op: str | None = None) -> None:
        planning = {"planning": True} if self.options.preview else {}
        self.events.send(kind, {"metadata": step.metadata(op), **planning})

    def count(self, step: Step, op: str | None = None) -> None:
        if step.logical:
            with self._counting:
                self.counts[op or step.op] += 1

    # What steps do in the cloud

    def create(self, handler: Handler, cloud: Any, new: Resource) -> None:
        inputs = given(new.inputs)
        with errors(f"creating {handler.noun} ({_called(handler, new)})", service_of(new.type)):
            new.id = handler.create(cloud, inputs)
            self._refuse_races(handler, new)
            new.outputs = self.outputs(handler, cloud, new)
        new.created = new.modified = now()

    def update(self, handler: Handler, cloud: Any, old: Resource, new: Resource) -> None:
        with errors(f"updating {handler.noun} ({_called(handler, new)})", service_of(new.type)):
            handler.update(cloud, old.id, known(old), given(new.inputs))
            self._refuse_races(handler, new)
            new.outputs = self.outputs(handler, cloud, new)
        new.modified = now()

    def delete(self, handler: Handler, cloud: Any, old: Resource) -> None:
        with errors(f"deleting {handler.noun} ({_called(handler, old)})", service_of(old.type)):
            handler.delete(cloud, old.id, known(old))

    def _refuse_races(self, handler: Handler, new: Resource) -> None:
        """It went well: by chance, if it does not wait for what the cloud needs first."""
        inputs, needed = given(new.inputs), self.needed(new)
        for other in (*self.checkpoint.resources, *list(self.seen.values())):
            refusal = handler.refuses_without(inputs, other)
            if refusal and other.urn not in needed:
                raise ProviderFailed(refusal)

    def outputs(self, handler: Handler, cloud: Any, resource: Resource) -> Properties:
        """What the cloud says of a resource, over what it was given."""
        inputs = {key: value for key, value in resource.inputs.items() if key != DEFAULTED}
        found = handler.read(cloud, resource.id, known(resource))
        if found is None:
            raise ProviderFailed("couldn't find resource")
        found = {
            key: plain(inputs[key])
            if key in handler.documents and key in inputs and alike(inputs[key], value)
            else value
            for key, value in found.items()
        }
        return with_secrets({**inputs, **found}, resource)

    def needed(self, resource: Resource) -> set[str]:
        """The URNs of everything that a resource depends on, directly or not."""
        by_urn = {each.urn: each for each in (*self.checkpoint.resources, *list(self.seen.values()))}
        found: set[str] = set()
        open_ = [resource]
        while open_:
            for urn in open_.pop().needs() - found:
                found.add(urn)
                if urn in by_urn:
                    open_.append(by_urn[urn])
        return found


def plain_config(config: Properties) -> dict[str, str]:
    """Config as events show it."""
    return {key: "[secret]" if isinstance(value, Secret) else value for key, value in config.items()}


def given(inputs: Properties) -> Properties:
    """Inputs for a handler: in clear, and without what the engine keeps in them."""
    return plain({key: value for key, value in inputs.items() if key != DEFAULTED})


def known(resource: Resource) -> Properties:
    return {**plain(resource.outputs), **given(resource.inputs)}


def alike(old: Any, new: Any) -> bool:
    return document(plain(old)) == document(plain(new))


def with_secrets(outputs: Properties, resource: Resource) -> Properties:
    """Outputs that are secret: those of secret inputs, and those that the program names."""
    hidden = {key for key, value in resource.inputs.items() if is_secret(value)} | {*resource.additional_secret_outputs}
    return {key: Secret(plain(value)) if key in hidden and key in outputs else value for key, value in outputs.items()}


def previewed(new: Resource, old: Resource | None) -> None:
    """What a preview knows of a resource: what it has now, and what it is given."""
    inputs = {key: value for key, value in new.inputs.items() if key != DEFAULTED}
    new.id = old.id if old else ""
    new.outputs = with_secrets({**(old.outputs if old else {}), **inputs}, new)


def copied(resource: Resource, **changes: Any) -> Resource:
    return replace(resource, **changes)


def _called(handler: Handler, resource: Resource) -> str:
    """The name that the provider's errors use."""
    name = resource.inputs.get(handler.named) if handler.named else resource.inputs.get("bucket")
    return str(plain(name) or resource.id or resource.name)


def needs_provider(resource: Resource) -> bool:
    return resource.custom and not is_provider(resource.type)
