"""What apply would do, and how it is made: a fake stands in for the driver only."""

from pathlib import Path
from typing import Any

import pytest

from buildflow.errors import DataLossRefused, ResourceFailed, ServiceUnavailable
from buildflow.ir.changes import ChangeSet, ResourceChange
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.base import Action, Change
from buildflow.provision import apply as applying
from buildflow.provision import changes as changing
from buildflow.provision.apply import apply, bound_resources, clear, refusals, refuse_data_loss
from buildflow.provision.changes import destruction, diff, unapplied
from buildflow.provision.state import State, load


class FakeDriver:
    """One world for all types: what exists, by type and key, and what it holds."""

    def __init__(self) -> None:
        self.world: dict[tuple[str, str], Resource] = {}
        self.holds: dict[str, str] = {}
        self.broken: set[str] = set()
        self.calls: list[str] = []
        self.type = ""

    def of(self, type: str, provider: str) -> "FakeDriver":
        self.type = type
        return self

    def exists(self, resource: Resource, session: Any) -> bool:
        return (self.type, resource.key) in self.world

    def compare(self, old: Resource, new: Resource, session: Any) -> Change:
        if old.name != new.name:
            return Change(Action.REPLACE, (f"name: {old.name} -> {new.name}",), self.holds.get(old.key, ""))
        fields = tuple(f"{k}: {old.spec.get(k)} -> {v}" for k, v in new.spec.items() if old.spec.get(k) != v)
        return Change(Action.UPDATE if fields else Action.NONE, fields)

    def content(self, resource: Resource, session: Any) -> str:
        return self.holds.get(resource.key, "")

    def create(self, resource: Resource, session: Any) -> dict[str, Any]:
        self._do("create", resource)
        self.world[resource.type, resource.key] = resource
        return {"url": f"fake://{resource.name}"}

    def update(self, old: Resource, new: Resource, session: Any) -> dict[str, Any]:
        self._do("update", new)
        self.world[new.type, new.key] = new
        return {"url": f"fake://{new.name}"}

    def delete(self, resource: Resource, session: Any) -> None:
        self._do("delete", resource)
        del self.world[resource.type, resource.key]

    def _do(self, verb: str, resource: Resource) -> None:
        if resource.key in self.broken:
            raise ServiceUnavailable("the world is on fire", hint="wait")
        self.calls.append(f"{verb} {resource.key}")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    fake = FakeDriver()
    for module in (changing, applying):
        monkeypatch.setattr(module, "driver", fake.of)
    monkeypatch.setattr(changing, "is_declared", lambda type, provider: False)
    return fake


def sessions(provider: str) -> None:
    """The fake driver needs none."""


def resource(key: str, type: str = "bucket", **more: Any) -> Resource:
    values: dict[str, Any] = {"name": key, "spec": {}, **more}
    return Resource(key=key, type=type, provider="local", id=f"fake://{values['name']}", label=type.title(), **values)


def graph(*resources: Resource) -> ResourceGraph:
    return ResourceGraph(project="shop", stack="local", resources=resources)


def bring(folder: Path, *resources: Resource) -> list[str]:
    """Diff and apply; the steps that were told."""
    told: list[str] = []
    changes = diff(graph(*resources), load(folder), sessions)
    apply(changes, folder, sessions, lambda change: told.append(f"{change.verb} {change.key}"))
    return told


def verbs(changes: ChangeSet) -> list[str]:
    return [f"{c.verb} {c.key}" for c in changes.changes]


def test_creates_in_dependency_order_and_then_nothing(world: FakeDriver, tmp_path: Path) -> None:
    declared = [resource("files"), resource("arrivals", "stream"), resource("orders", "queue")]
    assert bring(tmp_path, *declared) == ["create files", "create arrivals", "create orders"]
    assert load(tmp_path).resources["files"].outputs == {"url": "fake://files"}
    assert bring(tmp_path, *declared) == []
    assert unapplied(graph(*declared), load(tmp_path)) == []


def test_deletes_come_first_and_in_reverse(world: FakeDriver, tmp_path: Path) -> None:
    bring(tmp_path, resource("a"), resource("b"), resource("c"))
    assert bring(tmp_path, resource("c"), resource("d")) == ["delete b", "delete a", "create d"]
    changes = destruction(load(tmp_path), "shop", "local", sessions)
    assert verbs(changes) == ["delete d", "delete c"]


def test_updates_and_replaces_say_what_changes_and_what_is_lost(world: FakeDriver, tmp_path: Path) -> None:
    bring(tmp_path, resource("a"), resource("b"))
    world.holds["b"] = "3 objects"
    declared = [resource("a", spec={"lease": 5}), resource("b", name="other")]
    changes = diff(graph(*declared), load(tmp_path), sessions)
    assert [(c.verb, c.fields, c.loses) for c in changes.changes] == [
        ("update", ("lease: None -> 5",), ""),
        ("replace", ("name: b -> other",), "3 objects"),
    ]
    assert unapplied(graph(*declared), load(tmp_path)) == ["a", "b"]


def test_what_no_driver_cares_about_is_recorded_all_the_same(world: FakeDriver, tmp_path: Path) -> None:
    bring(tmp_path, resource("a"))
    renamed = resource("a").model_copy(update={"id": "fake://elsewhere"})
    assert bring(tmp_path, renamed) == ["update a"]
    assert unapplied(graph(renamed), load(tmp_path)) == []


def test_another_type_under_the_same_key_is_a_delete_and_a_create(world: FakeDriver, tmp_path: Path) -> None:
    bring(tmp_path, resource("a", "bucket"))
    world.holds["a"] = "3 objects"
    changes = diff(graph(resource("a", "queue")), load(tmp_path), sessions)
    assert verbs(changes) == ["delete a", "create a"]
    assert [c.loses for c in changes.changes] == ["3 objects", ""]
    bring(tmp_path, resource("a", "queue"))
    assert list(world.world) == [("queue", "a")]
    assert load(tmp_path).resources["a"].type == "queue"


def test_what_vanished_is_created_again_and_what_is_gone_loses_nothing(world: FakeDriver, tmp_path: Path) -> None:
    bring(tmp_path, resource("a"))
    world.world.clear()
    world.holds["a"] = "3 objects"
    assert destruction(load(tmp_path), "shop", "local", sessions).losses == ()
    assert bring(tmp_path, resource("a")) == ["create a"]


def test_an_unmanaged_resource_is_looked_for_and_never_touched(world: FakeDriver, tmp_path: Path) -> None:
    theirs = resource("a", managed=False)
    with pytest.raises(ResourceFailed, match="does not exist"):
        bring(tmp_path, theirs)
    world.world["bucket", "a"] = theirs
    world.holds["a"] = "3 objects"
    assert bring(tmp_path, theirs) == ["create a"]
    assert bring(tmp_path, theirs) == []
    changes = destruction(load(tmp_path), "shop", "local", sessions)
    assert changes.losses == ()
    apply(changes, tmp_path, sessions, lambda change: None)
    assert load(tmp_path).resources == {}
    assert world.calls == []
    assert ("bucket", "a") in world.world


def test_a_failure_names_the_resource_and_what_was_made_stays_recorded(world: FakeDriver, tmp_path: Path) -> None:
    world.broken = {"b"}
    with pytest.raises(ResourceFailed, match="Bucket fake://b could not be created: the world is on fire") as caught:
        bring(tmp_path, resource("a"), resource("b"), resource("c"))
    assert caught.value.hint == "wait"
    assert list(load(tmp_path).resources) == ["a"]
    world.broken = set()
    assert bring(tmp_path, resource("a"), resource("b"), resource("c")) == ["create b", "create c"]


def test_what_may_not_be_made(world: FakeDriver, tmp_path: Path) -> None:
    kept = resource("kept", spec={"force_destroy": False})
    forced = resource("forced", spec={"force_destroy": True})
    rows = resource("rows", "table")
    bring(tmp_path, kept, forced, rows)
    world.holds = {"kept": "1 object", "forced": "2 objects", "rows": "3 rows"}
    gone = diff(graph(), load(tmp_path), sessions)
    everything = destruction(load(tmp_path), "shop", "local", sessions)

    def refused(changes: ChangeSet, **how: bool) -> list[str]:
        return [words.split(" holds ")[0].split(" would ")[0] for words in refusals(changes, **how)]

    bucket, table = "Bucket fake://kept", "deleting Table fake://rows"
    assert refused(gone, destroying=False, allow_data_loss=False) == [table, bucket]
    assert refused(gone, destroying=False, allow_data_loss=True) == [bucket], "a bucket's content has its own switch"
    assert refused(everything, destroying=True, allow_data_loss=False) == [bucket]
    with pytest.raises(DataLossRefused, match="force_destroy: true"):
        refuse_data_loss(everything, destroying=True, allow_data_loss=False)
    refuse_data_loss(destruction(State(), "shop", "local", sessions), destroying=True, allow_data_loss=False)


@pytest.mark.parametrize(
    ("verb", "name", "destroying", "afterwards"),
    [
        ("replace", "other", False, "then rename it"),
        ("replace", "files", False, "then make this change"),
        ("delete", "files", False, "then remove it"),
        ("delete", "files", True, "then destroy"),
    ],
)
def test_a_bucket_goes_with_its_objects_only_as_it_was_applied(
    verb: Any, name: str, destroying: bool, afterwards: str
) -> None:
    def refused(*, applied: bool) -> list[str]:
        old = resource("files", spec={"force_destroy": applied})
        new = resource("files", name=name, spec={"force_destroy": True}) if verb == "replace" else None
        change = ResourceChange(
            verb=verb, key="files", label="Bucket", id=f"fake://{name}", old=old, new=new, loses="3 objects"
        )
        changes = ChangeSet(project="shop", stack="local", changes=(change,))
        return refusals(changes, destroying=destroying, allow_data_loss=True)

    assert refused(applied=True) == []
    (words,) = refused(applied=False)
    order = f'set `force_destroy: true` on "files", apply that first, {afterwards}'
    assert words == f"Bucket fake://files holds 3 objects; {order}; or empty it"


def test_what_is_protected_is_neither_deleted_nor_replaced() -> None:
    old = resource("rows").model_copy(update={"spec": {"deletion_protection": True}})
    for verb in ("delete", "replace"):
        change = ResourceChange(verb=verb, key="rows", label="Table", id="fake://rows", old=old, loses="12 rows")
        changes = ChangeSet(project="shop", stack="local", changes=(change,))
        for destroying in (True, False):
            (words,) = refusals(changes, destroying=destroying, allow_data_loss=True)
            assert words.startswith("Table fake://rows has `deletion_protection: true`")
    update = ResourceChange(verb="update", key="rows", label="Table", id="fake://rows", old=old, new=old)
    assert (
        refusals(ChangeSet(project="shop", stack="local", changes=(update,)), destroying=False, allow_data_loss=False)
        == []
    )


def test_outputs_are_put_into_what_was_made() -> None:
    made = resource("a").model_copy(update={"outputs": {"url": "u"}})
    bound = bound_resources((resource("a"), resource("b")), State(resources={"a": made}))
    assert [r.outputs for r in bound] == [{"url": "u"}, {}]


def test_clear_removes_the_stacks_keys_and_no_others() -> None:
    class Redis:
        keys = ["shop-local:dead:save", "shop-local:process:worker:1"]
        deleted: tuple[str, ...] = ()

        def scan_iter(self, pattern: str) -> list[str]:
            assert pattern == "shop-local:*"
            return self.keys

        def delete(self, *keys: str) -> None:
            assert keys
            self.deleted += keys
            self.keys = []

    redis = Redis()
    clear(redis, "shop-local")
    clear(redis, "shop-local")
    assert redis.deleted == ("shop-local:dead:save", "shop-local:process:worker:1")
