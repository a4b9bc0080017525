"""Pulumi's engine for one stack, through its Automation API.

    stack's backend_url ── state          PULUMI_CONFIG_PASSPHRASE or `secrets_provider` ── what is secret in it
    inline program ─────── preview, up, refresh, destroy ─── events -> Steps

Source: https://www.pulumi.com/docs/iac/packages-and-automation/automation-api/
"""

import contextlib
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from buildflow.errors import BuildflowError, ResourceFailed, ServiceUnavailable
from buildflow.provision.cloud.failures import in_words
from buildflow.provision.cloud.pending import Find, take_up
from buildflow.provision.cloud.steps import COMPONENT, IDENTITY, Step, Steps, name_of

PASSPHRASE = "PULUMI_CONFIG_PASSPHRASE"
INSTALL = "install it from https://www.pulumi.com/docs/install and have it on PATH"
_LOCKED = re.compile(r"created by \S+@(?P<host>\S+) \(pid (?P<pid>\d+)\)")


class PulumiMissing(ServiceUnavailable):
    """The Pulumi CLI, which creates what a cloud holds, is not on PATH."""

    hint = INSTALL


class StateLocked(ServiceUnavailable):
    """Another command is changing this stack."""


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
        self._raised: BuildflowError | None = None
        """What the program raised, which the CLI tells of as a traceback."""

    def preview(self) -> Steps:
        return self._run("preview").steps

    def preview_destroy(self) -> Steps:
        return self._run("preview_destroy").steps

    def up(self, watch: Watch) -> None:
        """Make it so, with what an interrupted one had begun."""
        if self._take_up_pending():
            self._run("refresh")
        self._run("up", watch)

    def destroy(self, watch: Watch) -> None:
        """Delete everything, what an interrupted command had begun included."""
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
        with self._in_words(_Told()):
            deployment = self._stack().export_stack().deployment or {}
        return {
            name_of(resource["urn"]): {k: v for k, v in resource["outputs"].items() if _is_plain(v)}
            for resource in deployment.get("resources") or ()
            if _is_primitive(resource["type"]) and resource.get("outputs")
        }

    def _take_up_pending(self) -> bool:
        with self._in_words(_Told()):
            stack = self._stack()
            exported = stack.export_stack()
            if not take_up(exported.deployment or {}, self._find):
                return False
            self._locking(lambda: stack.import_stack(exported))
        self._say("an earlier command was interrupted; going on where it ended")
        return True

    def _run(self, operation: str, watch: Watch | None = None) -> _Told:
        told = _Told()
        self._raised = None

        def on_event(event: Any) -> None:
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
        """Do what locks the state. A lock whose process is gone is broken."""
        try:
            do()
        except _concurrent() as exc:
            if not self._is_stale(str(exc)):
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
        settings = automation.ProjectSettings(
            name=place.project, runtime="python", backend=automation.ProjectBackend(url=place.backend_url)
        )
        return automation.create_or_select_stack(
            stack_name=place.stack,
            project_name=place.project,
            program=self._run_program,
            opts=automation.LocalWorkspaceOptions(
                work_dir=str(place.folder),
                pulumi_home=place.home,
                secrets_provider=place.secrets_provider,
                project_settings=settings,
                env_vars={"PULUMI_SKIP_UPDATE_CHECK": "true", **place.environment},
            ),
        )

    def _run_program(self) -> None:
        try:
            self._program()
        except BuildflowError as exc:
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
                f'the state of stack "{self.place.stack}" is locked: {_holder(str(exc))}',
                hint="wait for it; if it is gone for good, run: platform cancel",
            ) from exc
        except errors.InvalidVersionError as exc:
            raise PulumiMissing(f"the Pulumi CLI on PATH does not fit: {exc}") from exc
        except errors.CommandError as exc:
            raise (self._raised or self._failure(str(exc), told)) from exc

    def _failure(self, said: str, told: _Told) -> BuildflowError:
        """What went wrong, a sentence for each resource that failed; without one, what the CLI said."""
        found = [(told.steps.found.get(urn), message) for urn, message in told.errors if urn in told.steps.found]
        lines, hints = [], []
        for step, message in found or [(None, said)]:
            words, hint = in_words(message)
            lines.append(f'{step.label} "{step.owner}" ({step.noun}): {words}' if step and step.owner else words)
            hints.append(hint)
        return ResourceFailed("\n".join(dict.fromkeys(lines)), hint=next((h for h in hints if h), ""))

    def _is_stale(self, said: str) -> bool:
        """Whether all who hold the state are processes of this machine that are gone."""
        holders = list(_LOCKED.finditer(said))
        return bool(holders) and all(h["host"] == socket.gethostname() and _is_gone(int(h["pid"])) for h in holders)


def _is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _holder(said: str) -> str:
    found = _LOCKED.search(said)
    return f"process {found['pid']} on {found['host']} holds it" if found else "another command holds it"


def _concurrent() -> type[Exception]:
    from pulumi.automation.errors import ConcurrentUpdateError

    return ConcurrentUpdateError


def _is_primitive(type: str) -> bool:
    return type.startswith(COMPONENT) and not type.endswith(f":{IDENTITY}")


def _is_plain(value: Any) -> bool:
    """Whether a checkpoint's value is no secret. Its mark: https://www.pulumi.com/docs/iac/concepts/secrets"""
    return not (isinstance(value, Mapping) and "4dabf18193072939515e22adb298388d" in value)
