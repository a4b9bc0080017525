"""Make the changes of a ChangeSet, one resource at a time, recording each before the next."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from buildflow.errors import BuildflowError, DataLossRefused, ResourceFailed
from buildflow.ir.changes import ChangeSet, ResourceChange
from buildflow.ir.graph import Resource
from buildflow.primitives.registry import driver, is_declared
from buildflow.providers.redis_client import spoken
from buildflow.provision import state as states
from buildflow.provision.state import State

Step = Callable[[ResourceChange], None]


def refusals(changes: ChangeSet, *, destroying: bool, allow_data_loss: bool) -> list[str]:
    """Why these changes may not be made, a sentence each; empty when they may.

    A bucket's content goes only with the `force_destroy: true` that was applied to it; elsewhere an `apply` that would
    lose data needs `--allow-data-loss`, while `destroy` is asked for what it does."""
    found = [
        f'{c.label} {c.id} has `deletion_protection: true`; set it to false on "{c.key}", and apply that first'
        for c in changes.changes
        if _protected(c)
    ]
    found += [
        f"{c.label} {c.id} is managed here, and `managed: false` would delete it; "
        "keep it managed, with `deletion_protection: true`"
        for c in changes.changes
        if _let_go(c)
    ]
    for change in changes.losses:
        old = change.old
        if _protected(change) or _let_go(change):
            continue
        forced = old.spec.get("force_destroy") if old is not None else None
        if old is not None and forced is False:
            first = (
                f'set `force_destroy: true` on "{change.key}", apply that first, then {_afterwards(change, destroying)}'
            )
            found.append(f"{change.label} {old.id} holds {change.loses}; {first}; or empty it")
        elif not (forced and change.verb == "delete") and not destroying and not allow_data_loss:
            what = "deleting" if change.verb == "delete" else "changing"
            found.append(
                f"{what} {change.label} {change.id} would lose {change.loses}; pass --allow-data-loss if that is meant"
            )
    return found


def _protected(change: ResourceChange) -> bool:
    """Whether this would take away what is recorded as protected."""
    old = change.old if change.verb in ("delete", "replace") else None
    return old is not None and old.managed and bool(old.spec.get("deletion_protection"))


def _let_go(change: ResourceChange) -> bool:
    """Whether `managed: false` would delete what a cloud's engine made."""
    old, new = change.old, change.new
    return bool(old and new and old.managed and not new.managed and is_declared(new.type, new.provider))


def _afterwards(change: ResourceChange, destroying: bool) -> str:
    """What was asked for, as what is done once the bucket may go."""
    if change.verb == "delete":
        return "destroy" if destroying else "remove it"
    renamed = change.old and change.new and change.old.name != change.new.name
    return "rename it" if renamed else "make this change"


def apply(changes: ChangeSet, folder: Path, sessions: Callable[[str], Any], done: Step) -> None:
    """Make all changes; what was made stays recorded when a later one fails. Call under the stack's lock."""
    state = states.load(folder)
    for change in changes.changes:
        try:
            _make(change, state, sessions)
        except (BuildflowError, OSError) as exc:
            states.save(folder, state)
            words = f"{change.label} {change.id} could not be {_PARTICIPLES[change.verb]}: {exc}"
            raise ResourceFailed(words, hint=getattr(exc, "hint", "")) from exc
        states.save(folder, state)
        done(change)
    folder.mkdir(parents=True, exist_ok=True)
    states.save(folder, state)


_PARTICIPLES = {"create": "created", "update": "updated", "replace": "replaced", "delete": "deleted"}


def _make(change: ResourceChange, state: State, sessions: Callable[[str], Any]) -> None:
    if change.verb == "delete":
        assert change.old is not None
        if change.old.managed:
            driver(change.old.type, change.old.provider).delete(change.old, sessions(change.old.provider))
        state.resources.pop(change.key, None)
        return
    new = change.new
    assert new is not None
    outputs = _outputs(change, new, sessions(new.provider))
    state.resources[change.key] = new.model_copy(update={"outputs": outputs})


def _outputs(change: ResourceChange, new: Resource, session: Any) -> dict[str, Any]:
    chosen = driver(new.type, new.provider)
    if not new.managed:
        if not chosen.exists(new, session):
            raise ResourceFailed(
                "it is not managed here, and does not exist", hint="create it, or drop `managed: false`"
            )
        return {}
    if change.verb == "create":
        outputs: dict[str, Any] = chosen.create(new, session)
    else:
        assert change.old is not None
        outputs = chosen.update(change.old, new, session)
    return outputs


def refuse_data_loss(changes: ChangeSet, *, destroying: bool, allow_data_loss: bool) -> None:
    """Raise `DataLossRefused`, naming every loss, when these changes may not be made."""
    found = refusals(changes, destroying=destroying, allow_data_loss=allow_data_loss)
    if found:
        raise DataLossRefused("\n".join(found))


def bound_resources(resources: Iterator[Resource] | tuple[Resource, ...], state: State) -> tuple[Resource, ...]:
    """Declared resources with the outputs that were recorded when they were made."""
    return tuple(
        r.model_copy(update={"outputs": state.resources[r.key].outputs}) if r.key in state.resources else r
        for r in resources
    )


def clear(redis: Any, namespace: str) -> None:
    """Remove what running left in the Redis of a destroyed stack: heartbeats, dead letters, Celery's own keys."""
    with spoken():
        keys = list(redis.scan_iter(f"{namespace}:*"))
        if keys:
            redis.delete(*keys)
