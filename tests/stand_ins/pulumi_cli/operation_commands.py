"""`up`, `preview`, `refresh`, `destroy`: run a deployment over a stack."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from pulumi_cli import plan
from pulumi_cli.checkpoint import Checkpoint, now
from pulumi_cli.deleting import delete_what_is_gone, destroy
from pulumi_cli.deployment import Deployment, Options, plain_config
from pulumi_cli.display import Digest, Lines
from pulumi_cli.events import Events, event_log
from pulumi_cli.options import Arguments
from pulumi_cli.problems import CommandFailed, DeploymentFailed
from pulumi_cli.refreshing import refresh
from pulumi_cli.stacks import Stack
from pulumi_cli.values import Secret, plain

FAILED = 255


def up(arguments: Arguments) -> int:
    return _operate("update", arguments, partial(_run_program, arguments))


def preview(arguments: Arguments) -> int:
    return _operate("update", arguments, partial(_run_program, arguments), preview=True)


def refresh_stack(arguments: Arguments) -> int:
    clear = arguments.has("--clear-pending-creates")
    preview = arguments.has("--preview-only")
    return _operate("refresh", arguments, partial(refresh, clear_pending_creates=clear), preview=preview)


def destroy_stack(arguments: Arguments) -> int:
    def work(deployment: Deployment) -> None:
        _refresh_first(deployment)
        destroy(deployment)

    return _operate("destroy", arguments, work, preview=arguments.has("--preview-only"))


def _run_program(arguments: Arguments, deployment: Deployment) -> None:
    from pulumi_cli.program import run_program

    _refresh_first(deployment)
    run_program(deployment, arguments.one("--client"))
    if not deployment.failed and not deployment.cancelled.is_set():
        delete_what_is_gone(deployment)
    if deployment.allowed is not None and not deployment.failed:
        for message in deployment.allowed.left_over():
            deployment.fail(DeploymentFailed(message))


def _refresh_first(deployment: Deployment) -> None:
    if deployment.options.refresh:
        refresh(deployment)


def _operate(kind: str, arguments: Arguments, work: Callable[[Deployment], None], *, preview: bool = False) -> int:
    stack = Stack(arguments)
    stack.backend.read(stack.name)  # it has to be there before it is locked
    with nullcontext() if preview else stack.backend.locked(stack.name):
        secrets = stack.secrets
        config = stack.config()
        options = _options(arguments, preview)
        listeners: list[Any] = [Digest(plain_config(config)) if arguments.has("--json") else Lines()]
        if arguments.one("--event-log"):
            listeners.append(event_log(arguments.one("--event-log") or ""))
        events = Events(listeners)
        write: Callable[[str], None] = partial(stack.backend.write, stack.name)
        if preview:
            write = _nothing
        checkpoint = Checkpoint(stack.qualified, stack.deployment(), lambda: secrets, write)
        deployment = Deployment(stack.project.name, stack.name, config, options, checkpoint, events)
        if arguments.one("--plan"):
            deployment.allowed = plan.load(arguments.one("--plan") or "", lambda: secrets)
        began = now()
        with _interruptible(deployment):
            try:
                deployment.begin()
                work(deployment)
            except DeploymentFailed as failure:
                deployment.fail(failure)
            finally:
                _refuse_changes(arguments, deployment)
                deployment.finish("preview" if preview else "update")
                events.close()
        if not preview:
            stack.backend.add_history(stack.name, _history(kind, arguments, deployment, began))
        if arguments.one("--save-plan") and not deployment.failed:
            deployment.planned.save(arguments.one("--save-plan") or "", lambda: secrets)
        return FAILED if deployment.failed else 0


def _nothing(text: str) -> None:
    """A preview writes no checkpoint."""


def _options(arguments: Arguments, preview: bool) -> Options:
    parallel = int(arguments.one("--parallel") or 16)
    return Options(
        preview=preview,
        parallel=max(1, parallel),
        targets=frozenset(arguments.all("--target")),
        excludes=frozenset(arguments.all("--exclude")),
        dependents=arguments.has("--target-dependents"),
        replace=frozenset(arguments.all("--replace")),
        refresh=arguments.has("--refresh"),
        continue_on_error=arguments.has("--continue-on-error"),
        exclude_protected=arguments.has("--exclude-protected"),
    )


def _refuse_changes(arguments: Arguments, deployment: Deployment) -> None:
    changed = set(deployment.counts) - {"same"}
    if arguments.has("--expect-no-changes") and changed and not deployment.failed:
        proposed = "proposed" if deployment.options.preview else "occurred"
        deployment.fail(DeploymentFailed(f"no changes were expected but changes {proposed}"))


@contextmanager
def _interruptible(deployment: Deployment) -> Iterator[None]:
    """Ctrl-C lets what runs end and begins nothing more."""

    def cancel(number: int, frame: Any) -> None:
        deployment.cancelled.set()

    before = {each: signal.signal(each, cancel) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _history(kind: str, arguments: Arguments, deployment: Deployment, began: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "startTime": began,
        "message": arguments.one("--message") or "",
        "environment": {"exec.kind": arguments.one("--exec-kind") or "cli"},
        "config": {
            key: {"value": plain(value), "secret": isinstance(value, Secret)}
            for key, value in deployment.config.items()
            if not isinstance(value, Secret)
        }
        | {key: {"secret": True} for key, value in deployment.config.items() if isinstance(value, Secret)},
        "result": "failed" if deployment.failed else "succeeded",
        "endTime": now(),
        "resourceChanges": dict(deployment.counts),
    }


def cancel(arguments: Arguments) -> int:
    stack = Stack(arguments, name=next(iter((*arguments.words[1:], *arguments.rest)), None))
    stack.backend.read(stack.name)
    for path in stack.backend.locks(stack.name):
        path.unlink(missing_ok=True)
    print(f"The currently running update for '{stack.name}' has been canceled!")
    return 0


def import_resources(arguments: Arguments) -> int:
    raise CommandFailed(
        "the stand-in for the Pulumi CLI has no `pulumi import`; give the resource the option `import_`"
    )
