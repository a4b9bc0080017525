"""Pulumi's engine for one stack, through its Automation API.

    stack's backend_url ── state          PULUMI_CONFIG_PASSPHRASE or `secrets_provider` ── what is secret in it
    inline program ─────── preview, up, refresh, destroy ─── events -> Steps

Source: https://www.pulumi.com/docs/iac/packages-and-automation/automation-api/
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildflow.errors import BuildflowError, ResourceFailed, ServiceUnavailable
from buildflow.provision.cloud import locks
from buildflow.provision.cloud.failures import in_words
from buildflow.provision.cloud.pending import Find, take_up
from buildflow.provision.cloud.steps import COMPONENT, IDENTITY, Step, Steps, name_of

PASSPHRASE = "PULUMI_CONFIG_PASSPHRASE"
INSTALL = "install it from https://www.pulumi.com/docs/install and have it on PATH"


class PulumiMissing(ServiceUnavailable):
    """The Pulumi CLI, which creates what a cloud holds, is not on PATH."""

    hint = INSTALL


class StateLocked(ServiceUnavailable):
    """Another command is changing this stack."""


class StateChanged(BuildflowError):
    """Another command changed this stack after its changes were shown; nothing was done."""

    hint = "run it again, and look at what it shows now"


@dataclass(frozen=True)
class Place:
    """Where a stack's state is and how it is kept.

    `folder` is a folder of the stack's own, `environment` what the CLI gets beside this process' own: credentials
    for a backend in a cloud, the passphrase.
    """

    project: str
    stack: str
    folder: Path
    backend_url: str
    home: str | None = None
    secrets_provider: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Told:
    """What the engine told of in one operation."""

    steps: Steps = field(default_factory=Steps)
    errors: list[tuple[str, str]] = field(default_factory=list)
    """Each with the URN that it is about, "" where it is about none."""


Watch = Callable[[Step, bool], None]
"""Told of each step when it begins (False) and when it is done (True)."""


class Engine:
    """One stack's engine. Every method talks to the Pulumi CLI; failures are `BuildflowError`s in words."""

    def __init__(self, place: Place, program: Callable[[], None], find: Find, say: Callable[[str], None]) -> None:
        self.place = place
        self._program = program
        self._find = find
        self._say = say
        self._opened: Any = None
        self._raised: Exception | None = None
        """What the program raised, which the CLI tells of as a traceback."""
        self._previewed = ""
        """The state that the last preview was of."""

    def preview(self) -> Steps:
        """What `up` would do, to be looked at."""
        return self._run("preview").steps

    def preview_up(self) -> Steps:
        """What the `up` that follows will do."""
        self._previewed = _digest(self._exported().deployment)
        return self.preview()

    def preview_destroy(self) -> Steps:
        """What the `destroy` that follows will do."""
        self._previewed = _digest(self._exported().deployment)
        return self._run("preview_destroy").steps

    def refuse_other_state(self) -> Any:
        """The state, exported. Raises `StateChanged` when others changed it since it was previewed."""
        exported = self._exported()
        if _digest(exported.deployment) != self._previewed:
            raise StateChanged
        return exported

    def up(self, watch: Watch) -> None:
        """Make what was previewed, and what an interrupted one had begun. Raises `StateChanged` before anything is
        made."""
        if self._take_up_pending():
            self._run("refresh")
        self._run("up", watch)

    def destroy(self, watch: Watch) -> None:
        """Delete what was previewed, and what an interrupted command had begun. Raises `StateChanged` before anything
        is deleted."""
        if self._take_up_pending():
            self._run("refresh")
        self._run("destroy", watch)

    def refresh(self) -> Steps:
        return self._run("refresh").steps

    def cancel(self) -> None:
        """Break the lock that an ended command left."""
        with self._in_words(_Told()):
            self._stack().cancel()

    def outputs(self) -> dict[str, dict[str, Any]]:
        """What each component that exists told of itself, by its key. Secret outputs are left out."""
        deployment = self._exported().deployment or {}
        return {
            name_of(resource["urn"]): {k: v for k, v in resource["outputs"].items() if _is_plain(v)}
            for resource in deployment.get("resources") or ()
            if _is_primitive(resource["type"]) and resource.get("outputs")
        }

    def begun(self) -> set[str]:
        """The URNs of what an interrupted command had begun."""
        pending = (self._exported().deployment or {}).get("pending_operations") or ()
        return {operation["resource"]["urn"] for operation in pending}

    def _exported(self) -> Any:
        with self._in_words(_Told()):
            return self._stack().export_stack()

    def _take_up_pending(self) -> bool:
        exported = self.refuse_other_state()
        with self._in_words(_Told()):
            if not take_up(exported.deployment or {}, self._find):
                return False
            self._locking(lambda: self._stack().import_stack(exported))
        self._say("an earlier command was interrupted; going on where it ended")
        return True

    def _run(self, operation: str, watch: Watch | None = None) -> _Told:
        told = _Told()
        self._raised = None
        locking = not operation.startswith("preview")

        def on_event(event: Any) -> None:
            nonlocal locking
            if locking:
                locks.note(self.place.folder)
                locking = False
            resource = event.resource_pre_event or event.res_outputs_event
            if resource:
                step = told.steps.add(resource.metadata)
                if watch is not None:
                    watch(step, bool(event.res_outputs_event))
            elif event.diagnostic_event and event.diagnostic_event.severity == "error":
                told.errors.append((event.diagnostic_event.urn or "", event.diagnostic_event.message))

        with self._in_words(told):
            stack = self._stack()
            self._locking(lambda: getattr(stack, operation)(on_event=on_event))
        return told

    def _locking(self, do: Callable[[], object]) -> None:
        """Do what locks the state. A lock whose holder is proven to be gone is broken."""
        try:
            do()
        except _concurrent() as exc:
            if not locks.is_stale(str(exc), self.place.folder):
                raise
            self._say("an earlier command ended without unlocking the state; unlocking it")
            self._stack().cancel()
            do()

    def _stack(self) -> Any:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> Any:
        from pulumi import automation

        if shutil.which("pulumi") is None:
            raise PulumiMissing
        place = self.place
        place.folder.mkdir(parents=True, exist_ok=True)
        if place.backend_url.startswith("file://"):
            Path(place.backend_url.removeprefix("file://")).mkdir(parents=True, exist_ok=True)
        return automation.create_or_select_stack(
            stack_name=place.stack,
            project_name=place.project,
            program=self._run_program,
            opts=automation.LocalWorkspaceOptions(
                work_dir=str(place.folder),
                pulumi_home=place.home,
                secrets_provider=place.secrets_provider,
                project_settings=automation.ProjectSettings(name=place.project, runtime="python"),
                env_vars={
                    "PULUMI_SKIP_UPDATE_CHECK": "true",
                    **place.environment,
                    "PULUMI_BACKEND_URL": place.backend_url,  # in a file of the project's its secrets would stay
                },
            ),
        )

    def _run_program(self) -> None:
        try:
            self._program()
        except Exception as exc:
            self._raised = exc
            raise

    @contextlib.contextmanager
    def _in_words(self, told: _Told) -> Iterator[None]:
        """The CLI's failures as this stack's."""
        from pulumi.automation import errors

        try:
            yield
        except errors.ConcurrentUpdateError as exc:
            raise StateLocked(
                f'the state of stack "{self.place.stack}" is locked: {locks.holder(str(exc))}',
                hint="wait for it; if it is gone for good, run: platform cancel",
            ) from exc
        except errors.InvalidVersionError as exc:
            raise PulumiMissing(f"the Pulumi CLI on PATH does not fit: {exc}") from exc
        except errors.CommandError as exc:
            raise (self._raised or self._failure(str(exc), told)) from exc

    def _failure(self, said: str, told: _Told) -> BuildflowError:
        """What went wrong, a sentence for each resource or provider that failed; without one, what the CLI said."""
        about = [(urn, message) for urn, message in told.errors if urn]
        found = [(told.steps.found.get(urn), message) for urn, message in about]
        lines, hints = [], []
        for step, message in found or [(None, said)]:
            words, hint = in_words(message)
            lines.append(f'{step.label} "{step.owner}" ({step.noun}): {words}' if step and step.owner else words)
            hints.append(hint)
        return ResourceFailed("\n".join(dict.fromkeys(lines)), hint=next((h for h in hints if h), ""))


def _digest(deployment: Any) -> str:
    """Of what a state holds, whenever it was written. Exports show secrets, so their encryption does not matter."""
    held = [(deployment or {}).get(name) or [] for name in ("resources", "pending_operations")]
    return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()


def _concurrent() -> type[Exception]:
    from pulumi.automation.errors import ConcurrentUpdateError

    return ConcurrentUpdateError


def _is_primitive(type: str) -> bool:
    return type.startswith(COMPONENT) and not type.endswith(f":{IDENTITY}")


def _is_plain(value: Any) -> bool:
    """Whether a checkpoint's value is no secret. Its mark: https://www.pulumi.com/docs/iac/concepts/secrets"""
    return not (isinstance(value, Mapping) and "4dabf18193072939515e22adb298388d" in value)
