"""The contract of a database on the local provider: provision, the handle, and a sink that writes effectively once."""

import contextlib
import gc
import json
import math
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy import text as sql_text

from buildflow.dependencies import sql_session
from buildflow.errors import BuildflowError, DependencyFailed, InvalidRow, ResourceFailed, ServiceUnavailable
from buildflow.ir.columns import Column
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.base import Action, Entry, SeenBefore
from buildflow.primitives.database import local, postgresql_sink
from buildflow.primitives.database.local import DRIVER
from buildflow.primitives.database.postgresql_pool import Pool
from buildflow.providers.local import LocalSession
from buildflow.types import Database
from tests.harness import platform, project, running
from tests.harness import wait_for as until

spawn = multiprocessing.get_context("spawn")


def open_session(root: Path) -> LocalSession:
    return LocalSession(ResourceGraph(project="p", stack="local"), root, root / ".buildflow/local", "p-local")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("databases")


@pytest.fixture(scope="module")
def session(root: Path) -> Iterator[LocalSession]:
    """One server for all tests; each has a database of its own name."""
    opened = open_session(root)
    yield opened
    opened.close(wait=5)


def text(name: str, **more: Any) -> Column:
    return Column(name=name, kind="string", **more)


def integer(name: str, **more: Any) -> Column:
    return Column(name=name, kind="integer", **more)


ORDERS = (integer("id"), text("note", nullable=True))


@dataclass
class Databases:
    """Declarations of a test, deleted when it ends."""

    session: LocalSession
    made: list[Resource] = field(default_factory=list)

    def __call__(self, *columns: Column, name: str = "p-local-orders", **spec: Any) -> Resource:
        made = Resource(
            key="orders",
            type="database",
            provider="local",
            name=name,
            id="",
            label="PostgreSQLDatabase",
            spec={"type": "database", "table": "orders", "upsert": []} | spec,
            columns=columns or ORDERS,
        )
        self.made.append(made)
        return made


@pytest.fixture(autouse=True)
def pools(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Closes what a test connects, as a process's `Connections` do."""
    made: list[Pool] = []
    make = local._pool

    def remembered(*arguments: Any) -> Pool:
        made.append(make(*arguments))
        return made[-1]

    monkeypatch.setattr(local, "_pool", remembered)
    yield
    for pool in made:
        pool.close()


@pytest.fixture
def declare(session: LocalSession) -> Iterator[Databases]:
    declared = Databases(session)
    yield declared
    for database in declared.made:
        DRIVER.delete(database, session)


@pytest.fixture
def orders(declare: Databases, session: LocalSession) -> Resource:
    database = declare()
    DRIVER.create(database, session)
    return database


def entries(*ids: str) -> list[Entry]:
    return [Entry(id, [{"id": int(id)}]) for id in ids]


def rows(session: LocalSession, database: Resource, table: str = "orders") -> list[dict[str, Any]]:
    return DRIVER.handle(database, session).query(f"SELECT * FROM {table} ORDER BY {table}")


def stored(session: LocalSession, database: Resource) -> list[int]:
    return [row["id"] for row in rows(session, database)]


def server_of(root: Path) -> psutil.Process:
    """The server that lives. Of one that was killed a backend may go on for some commits, while it need not wait."""
    recorded = root / ".buildflow/local/services/postgres/data/postmaster.pid"
    end = time.monotonic() + 90
    while True:
        try:
            return psutil.Process(int(recorded.read_text().splitlines()[0]))
        except (OSError, IndexError, psutil.NoSuchProcess):
            assert time.monotonic() < end
            time.sleep(0.01)


# Provision


def test_its_id_and_outputs_hold_no_secret(declare, session):
    database = declare(password="${secret.DB}")
    assert DRIVER.identify(database, session) == "postgresql://p-local-orders"
    outputs = DRIVER.create(database, session)
    assert outputs["name"] == "p-local-orders"
    assert outputs["url"] == DRIVER.handle(database, session).url
    assert psycopg.conninfo.conninfo_to_dict(outputs["url"]).keys() == {"user", "dbname", "host", "port"}


@pytest.mark.parametrize(
    ("name", "fine"), [("orders", True), ("größe x", True), ("postgres", False), ("a" * 64, False), ("a\n", False)]
)
def test_names(name, fine):
    assert (DRIVER.check_name(name) == "") is fine


def test_its_life(declare, session):
    database = declare()
    assert not DRIVER.exists(database, session)
    assert DRIVER.content(database, session) == ""
    DRIVER.create(database, session)
    assert DRIVER.exists(database, session)
    assert DRIVER.content(database, session) == ""
    handle = DRIVER.handle(database, session)
    assert handle.execute("INSERT INTO orders VALUES (1), (2)") == 2
    assert DRIVER.content(database, session) == "1 table with 2 rows"
    DRIVER.delete(database, session)
    assert not DRIVER.exists(database, session)
    DRIVER.delete(database, session)


def test_a_table_that_was_dropped_is_missing_and_made_again(orders, session):
    DRIVER.handle(orders, session).execute("DROP TABLE orders")
    assert not DRIVER.exists(orders, session)
    DRIVER.create(orders, session)
    assert stored(session, orders) == []


def test_a_table_that_fits_is_adopted_and_another_is_refused(declare, orders, session):
    DRIVER.handle(orders, session).execute("INSERT INTO orders VALUES (1)")
    DRIVER.create(declare(text("note", nullable=True), integer("id")), session)
    assert stored(session, orders) == [1]
    with pytest.raises(ResourceFailed) as caught:
        DRIVER.create(declare(text("id"), text("extra")), session)
    said = str(caught.value)
    assert 'its column "id" is bigint, not text' in said
    assert 'it has no column "extra"' in said


def test_a_database_without_a_table_is_no_sink(declare, session):
    database = declare(table=None)
    DRIVER.create(database, session)
    assert DRIVER.exists(database, session)
    with pytest.raises(ResourceFailed, match="no `table`"):
        DRIVER.sink(database, session)


def test_two_databases_share_the_server_and_a_user(declare, session):
    one = declare(name="p-local-a", user="app")
    two = declare(name="p-local-b", user="app", instance="orders")
    for database in (one, two):
        DRIVER.create(database, session)
    DRIVER.sink(one, session).commit("w", entries("1"))
    assert (stored(session, one), stored(session, two)) == ([1], [])
    DRIVER.delete(one, session)
    assert DRIVER.handle(two, session).query("SELECT current_user AS u") == [{"u": "app"}]


def test_a_user_of_the_servers_own_is_refused(declare, session):
    with pytest.raises(ResourceFailed, match='keeps the user "postgres" for itself'):
        DRIVER.create(declare(user="postgres"), session)


# Changes


def changed(session: LocalSession, old: Resource, new: Resource, *stored: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Store rows, compare, update: the change and the rows after it. The table has the declared columns then."""
    DRIVER.create(old, session)
    DRIVER.sink(old, session).commit("", [Entry("", stored)])
    change = DRIVER.compare(old, new, session)
    DRIVER.update(old, new, session)
    assert DRIVER.compare(new, new, session).action is Action.NONE
    DRIVER.create(new, session)  # adopts it only if its columns match
    return change, rows(session, new, new.spec["table"])


@pytest.mark.parametrize(
    ("new", "fields", "after"),
    [
        ((*ORDERS, text("extra", nullable=True)), "columns.extra: added", {"extra": None}),
        ((*ORDERS, text("extra", has_default=True, default="it's")), "columns.extra: added", {"extra": "it's"}),
        (
            (*ORDERS, text("tags", repeated=True, has_default=True, default=["a", "b"])),
            "columns.tags: added",
            {"tags": ["a", "b"]},
        ),
        (
            (*ORDERS, Column(name="data", kind="json", has_default=True, default={"a": [1]})),
            "columns.data: added",
            {"data": {"a": [1]}},
        ),
        ((Column(name="id", kind="float"), ORDERS[1]), "columns.id: integers -> numbers", {"id": 7.0}),
        ((integer("id", nullable=True), ORDERS[1]), "columns.id: may be empty now", {}),
        ((integer("id", has_default=True, default=5), ORDERS[1]), "columns.id: default changed", {}),
        (
            (ORDERS[0], text("note", has_default=True, default="none")),
            "columns.note: required now, empty values become its default",
            {"note": "none"},
        ),
    ],
)
def test_changes_in_place_lose_nothing(declare, session, new, fields, after):
    change, kept = changed(session, declare(), declare(*new), {"id": 7})
    assert (change.action, change.loses_data) == (Action.UPDATE, "")
    assert fields in change.fields
    assert kept == [{"id": 7, "note": None} | after]


@pytest.mark.parametrize(
    ("new", "loses", "after"),
    [
        ((ORDERS[0],), 'column "note" (text) and its values', [{"id": 1}, {"id": 2}]),
        (
            (ORDERS[0], integer("note", nullable=True)),
            'the values of column "note" (text), which is to hold integers',
            [{"id": 1, "note": None}, {"id": 2, "note": None}],
        ),
        ((ORDERS[0], text("note")), 'every row whose column "note" is empty', [{"id": 1, "note": "x"}]),
        (
            (*ORDERS, integer("extra")),
            'all rows of orders: column "extra" is required and has no default',
            [],
        ),
    ],
)
def test_what_loses_data_says_what(declare, session, new, loses, after):
    change, kept = changed(session, declare(), declare(*new), {"id": 1, "note": "x"}, {"id": 2})
    assert (change.action, change.loses_data) == (Action.UPDATE, loses)
    assert kept == after


def test_fields_of_a_record_change_and_what_was_written_stays(declare, session):
    def found(*fields: Column) -> Resource:
        return declare(integer("id"), Column(name="found", kind="record", fields=fields))

    row = {"id": 1, "found": {"n": 1}}
    change, kept = changed(session, found(integer("n")), found(text("label")), row)
    assert (change.action, change.loses_data) == (Action.UPDATE, "")
    assert change.fields == ("columns.found.n: removed", "columns.found.label: added")
    assert kept == [row]


def test_columns_in_another_order_are_no_change(declare, session):
    assert DRIVER.compare(declare(), declare(*reversed(ORDERS)), session).action is Action.NONE


def test_new_names_keep_rows_and_ids(declare, orders, session):
    DRIVER.sink(orders, session).commit("w", entries("1"))
    new = declare(*ORDERS, text("extra", nullable=True), name="p-local-new", table="fresh", user="someone")
    assert DRIVER.compare(orders, new, session).fields[:3] == (
        "name: p-local-orders -> p-local-new",
        "user: p-local-orders -> someone",
        "table: orders -> fresh",
    )
    DRIVER.update(orders, new, session)
    DRIVER.sink(new, session).commit("w", entries("1", "2"))
    assert [row["id"] for row in rows(session, new, "fresh")] == [1, 2]
    assert not DRIVER.exists(orders, session)


def test_a_table_that_is_no_sink_any_more_stays(declare, orders, session):
    DRIVER.sink(orders, session).commit("w", entries("1"))
    new = declare(table=None)
    change = DRIVER.compare(orders, new, session)
    assert (change.fields, change.loses_data) == (("table: orders -> none",), "")
    DRIVER.update(orders, new, session)
    assert stored(session, orders) == [1]


def test_upsert_columns_change_unless_rows_are_alike(declare, orders, session):
    sink = DRIVER.sink(orders, session)
    sink.commit("w", [Entry("1", [{"id": 1, "note": "a"}, {"id": 1, "note": "b"}])])
    by_note, by_id = declare(upsert=["note"]), declare(upsert=["id"])
    assert DRIVER.compare(orders, by_note, session).fields == ("upsert: [] -> [note]",)
    DRIVER.update(orders, by_note, session)
    DRIVER.sink(by_note, session).commit("w", [Entry("2", [{"id": 2, "note": "b"}])])
    assert stored(session, orders) == [1, 2]
    DRIVER.sink(by_note, session).commit("w", [Entry("3", [{"id": 1, "note": "c"}])])
    with pytest.raises(InvalidRow, match=r"could not create unique index .*\(id\)=\(1\) is duplicated"):
        DRIVER.update(by_note, by_id, session)
    assert DRIVER.sink(by_note, session).commit("w", [Entry("4", [{"id": 4, "note": "c"}])]) is None


# The handle


def test_its_handle_queries_and_executes(orders, session):
    handle = DRIVER.handle(orders, session)
    assert isinstance(handle, Database)
    assert handle.name == "p-local-orders"
    assert handle.execute("INSERT INTO orders VALUES (%s, %s), (2, NULL)", [1, "50% off"]) == 2
    assert handle.query("SELECT * FROM orders WHERE note LIKE '50%'") == [{"id": 1, "note": "50% off"}]
    assert handle.query("UPDATE orders SET note = 'x' WHERE id = %s RETURNING id", [2]) == [{"id": 2}]
    assert handle.execute("CREATE TABLE other (a int)") == 0
    with pytest.raises(BuildflowError, match='refuses: syntax error at or near "SELEC"'):
        handle.query("SELEC 1")
    with pytest.raises(ResourceFailed, match='relation "nothing" does not exist'):
        handle.query("SELECT * FROM nothing")
    assert handle.query("SELECT 1 AS one") == [{"one": 1}]


def test_its_url_is_for_psycopg_and_sqlalchemy(orders, session, monkeypatch):
    monkeypatch.setenv("PGPORT", "1")
    url = DRIVER.handle(orders, session).url
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("p-local-orders",)
    engine = create_engine(url)
    with engine.connect() as alchemy:
        assert alchemy.execute(sql_text("SELECT current_user")).scalar() == "p-local-orders"
    engine.dispose()


def test_many_threads_share_few_connections(orders, session):
    handle = DRIVER.handle(orders, session)
    count = "SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database()"
    with ThreadPoolExecutor(30) as pool:
        found = list(pool.map(lambda _: handle.query(count + " AND pg_sleep(0.01) IS NOT NULL")[0]["n"], range(60)))
    assert max(found) <= 8


def test_a_forked_child_has_connections_of_its_own(orders, session):
    handle = DRIVER.handle(orders, session)
    pid = "SELECT pg_backend_pid() AS pid"
    ours = handle.query(pid)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(handle.query(pid)[0]["pid"]).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(reading, 20)) != ours[0]["pid"]
    os.close(reading)
    os.close(writing)
    assert handle.query(pid) == ours, "and the parent keeps its own"


def test_it_reconnects_after_the_server_was_away(root, orders, session):
    handle, sink = DRIVER.handle(orders, session), DRIVER.sink(orders, session)
    sink.commit("w", entries("1"))
    server = server_of(root)
    server.kill()
    server.wait(60)
    assert handle.query("SELECT id FROM orders") == [{"id": 1}]
    sink.commit("w", entries("1", "2"))
    assert stored(session, orders) == [1, 2]


# The sink


def test_rows_of_an_element_are_written_once(orders, session):
    sink = DRIVER.sink(orders, session)
    assert sink.guarantee == "effectively once"
    sink.commit("w", entries("1", "2", "1"))
    sink.commit("w", entries("2", "3"))
    assert stored(session, orders) == [1, 2, 3]
    sink.commit("other", entries("3"))
    assert stored(session, orders) == [1, 2, 3, 3]
    sink.commit("w", [Entry("9", [])])
    sink.commit("w", [Entry("9", [{"id": 9}])])
    assert stored(session, orders) == [1, 2, 3, 3], "an element that had no row is done too"
    sink.commit("w", [Entry("", [{"id": 10}]), Entry("", [{"id": 10}])])
    assert stored(session, orders)[-2:] == [10, 10], "what bears no id is always written"
    sink.commit("w", [])


def test_what_must_be_fresh_is_refused_whole_when_an_element_was_seen(orders, session):
    sink = DRIVER.sink(orders, session)
    sink.commit("w", entries("1"))
    for ids in (["1", "2"], ["2", "1"], ["2", "2"]):
        with pytest.raises(SeenBefore):
            sink.commit("w", entries(*ids), fresh=True)
    assert stored(session, orders) == [1]
    sink.commit("w", entries("2", "3"), fresh=True)
    sink.commit("other", entries("3"), fresh=True)
    assert stored(session, orders) == [1, 2, 3, 3]


def test_a_database_made_anew_takes_every_element_again(orders, session):
    for _ in range(2):
        DRIVER.create(orders, session)
        DRIVER.sink(orders, session).commit("w", entries("1"))
        assert stored(session, orders) == [1]
        DRIVER.delete(orders, session)


NESTED = Column(
    name="found",
    kind="record",
    repeated=True,
    fields=(text("label"), Column(name="raw", kind="json"), Column(name="at", kind="timestamp", nullable=True)),
)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (text("v"), "日本語 🙂 'quoted' \\ \t\n %s {} \\u0000"),
        (integer("v"), -(2**63)),
        (Column(name="v", kind="float"), 5e-324),
        (Column(name="v", kind="float"), -math.inf),
        (Column(name="v", kind="boolean"), False),
        (Column(name="v", kind="bytes"), bytes(range(256))),
        (Column(name="v", kind="timestamp"), datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)),
        (Column(name="v", kind="date"), date(2026, 1, 2)),
        (Column(name="v", kind="json"), {"a": [1, None, "x"], "b": {}}),
        (Column(name="v", kind="json"), "text"),
        (text("v", repeated=True), ["a", "", "null", 'b,"c"', "{}"]),
        (integer("v", repeated=True), []),
        (Column(name="v", kind="bytes", repeated=True), [b"", b"\\\x00"]),
        (Column(name="v", kind="json", repeated=True), [{"a": 1}, "b", 2]),
        (
            NESTED.model_copy(update={"name": "v"}),
            [{"label": "a", "raw": {"deep": [1]}, "at": None}, {"label": "b", "raw": "text", "at": None}],
        ),
        (text("v", nullable=True), None),
        (Column(name="v", kind="json", nullable=True), None),
        (text("v", nullable=True, repeated=True), None),
    ],
)
def test_values_come_back_as_they_were(declare, session, column, value):
    database = declare(integer("id"), column)
    DRIVER.create(database, session)
    DRIVER.sink(database, session).commit("w", [Entry("1", [{"id": 1, "v": value}])])
    assert rows(session, database) == [{"id": 1, "v": value}]


def test_a_bad_row_takes_its_whole_commit_and_no_other(orders, session):
    sink = DRIVER.sink(orders, session)
    with pytest.raises(InvalidRow, match='column "id" holds integers, this row has text'):
        sink.check({"id": "x"})
    with pytest.raises(InvalidRow, match="the character NUL"):
        sink.check({"id": 1, "note": "a\0b"})
    sink.check({"id": 1, "note": "a\\u0000b"})
    assert stored(session, orders) == []
    with pytest.raises(InvalidRow):
        sink.commit("w", [*entries("1"), Entry("2", [{"id": "x"}])])
    sink.commit("w", entries("1"))
    assert stored(session, orders) == [1]


def test_a_row_that_a_constraint_refuses_takes_its_whole_commit(orders, session):
    DRIVER.handle(orders, session).execute("ALTER TABLE orders ADD CONSTRAINT few CHECK (id < 10)")
    sink = DRIVER.sink(orders, session)
    with pytest.raises(InvalidRow, match='"orders" violates check constraint "few"'):
        sink.commit("w", entries("1", "10"))
    sink.commit("w", entries("1"))
    assert stored(session, orders) == [1]


def test_an_upsert_replaces_and_the_last_row_of_a_key_wins(declare, session):
    database = declare(upsert=["id"])
    DRIVER.create(database, session)
    sink = DRIVER.sink(database, session)
    sink.commit("w", [Entry("1", [{"id": 1, "note": "a"}, {"id": 2, "note": "a"}, {"id": 1, "note": "b"}])])
    sink.commit("w", [Entry("2", [{"id": 2, "note": "c"}]), Entry("1", [{"id": 1, "note": "never"}])])
    assert rows(session, database) == [{"id": 1, "note": "b"}, {"id": 2, "note": "c"}]


def test_an_upsert_by_every_column_keeps_one_of_each(declare, session):
    database = declare(upsert=["note", "id"])
    DRIVER.create(database, session)
    sink = DRIVER.sink(database, session)
    for element in ("1", "2"):
        sink.commit("w", [Entry(element, [{"id": 1}, {"id": 1, "note": "a"}])])
    assert rows(session, database) == [{"id": 1, "note": "a"}, {"id": 1, "note": None}]


def test_a_database_that_is_not_applied_says_so(declare, orders, session):
    with pytest.raises(ResourceFailed, match=r'database "gone" is not as declared: .*does not exist') as caught:
        DRIVER.sink(declare(name="gone"), session).commit("w", entries("1"))
    assert caught.value.hint == "run: platform apply"
    with pytest.raises(ResourceFailed, match=r'column "new" of relation "orders" does not exist'):
        DRIVER.sink(declare(*ORDERS, text("new", nullable=True)), session).commit("w", entries("1"))
    assert stored(session, orders) == []


def test_old_marks_are_pruned_now_and_then(orders, session, monkeypatch):
    handle = DRIVER.handle(orders, session)
    old = "INSERT INTO _buildflow.orders SELECT gen_random_uuid(), now() - interval '16 days'"
    count = "SELECT count(*) AS n FROM _buildflow.orders"
    handle.execute(old)
    sink = DRIVER.sink(orders, session)
    sink.commit("w", entries("1"))
    assert handle.query(count) == [{"n": 1}]
    handle.execute(old)
    sink.commit("w", entries("2"))
    assert handle.query(count) == [{"n": 3}], "not in each commit"
    monkeypatch.setattr(postgresql_sink.time, "monotonic", lambda: 1e9)
    sink.commit("w", entries("3"))
    assert handle.query(count) == [{"n": 3}]


def commit_all(root: Path, database: Resource, ids: list[str], barrier: Any) -> None:
    session = open_session(root)
    sink = DRIVER.sink(database, session)
    for first in range(0, len(ids), 10):
        barrier.wait()
        sink.commit("w", entries(*ids[first : first + 10]))
    session.close()


@pytest.mark.parametrize("upsert", [[], ["id"]])
def test_the_same_elements_from_two_processes_are_written_once(declare, root, session, upsert):
    database = declare(upsert=upsert)
    DRIVER.create(database, session)
    ids = [str(i) for i in range(500)]
    barrier = spawn.Barrier(2)
    backwards = [id for first in range(0, 500, 10) for id in reversed(ids[first : first + 10])]
    processes = [spawn.Process(target=commit_all, args=(root, database, each, barrier)) for each in (ids, backwards)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0, 0]
    assert stored(session, database) == list(range(500))


def test_many_threads_write_each_element_once(orders, session):
    sinks = [DRIVER.sink(orders, session) for _ in range(2)]
    with ThreadPoolExecutor(16) as pool:
        for job in [pool.submit(sinks[n % 2].commit, "w", entries(str(n // 2))) for n in range(400)]:
            job.result()
    assert stored(session, orders) == list(range(200))


def test_a_commit_that_postgresql_gives_up_for_another_is_tried_again(declare, session):
    database = declare(upsert=["id"])
    DRIVER.create(database, session)
    handle, sink = DRIVER.handle(database, session), DRIVER.sink(database, session)
    sink.commit("w", [Entry("1", [{"id": 1}, {"id": 2}])])
    with psycopg.connect(handle.url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("UPDATE orders SET note = 'theirs' WHERE id = 2")
        job = pool.submit(sink.commit, "w", [Entry("2", [{"id": 1, "note": "ours"}, {"id": 2, "note": "ours"}])])
        waiting = "SELECT count(*) AS n FROM pg_locks WHERE NOT granted"
        while handle.query(waiting) == [{"n": 0}]:
            time.sleep(0.01)
        try:
            other.execute("UPDATE orders SET note = 'theirs' WHERE id = 1")
            other.commit()
        except psycopg.errors.DeadlockDetected:
            other.rollback()
        job.result(90)
    assert {row["note"] for row in rows(session, database)} == {"ours"}


# sql_session


def session_of(handle: Database, **options: bool) -> Any:
    return contextlib.contextmanager(sql_session)(handle, **{"expire_on_commit": False, "autoflush": False} | options)


def test_a_session_keeps_what_it_commits_and_nothing_else(orders, session):
    handle = DRIVER.handle(orders, session)
    with session_of(handle) as alchemy:
        alchemy.execute(sql_text("INSERT INTO orders VALUES (1)"))
        alchemy.commit()
        alchemy.execute(sql_text("INSERT INTO orders VALUES (2)"))
    with contextlib.suppress(ZeroDivisionError), session_of(handle) as alchemy:
        alchemy.execute(sql_text("INSERT INTO orders VALUES (3)"))
        raise ZeroDivisionError
    assert stored(session, orders) == [1]


def test_sessions_have_their_options_and_share_an_engine_that_goes_with_the_handle(orders, session):
    handle = DRIVER.handle(orders, session)
    with session_of(handle) as one, session_of(handle, autoflush=True, expire_on_commit=True) as other:
        assert one.bind is other.bind
        assert (one.autoflush, other.autoflush) == (False, True)
        assert (one.expire_on_commit, other.expire_on_commit) == (False, True)
        assert one.scalar(sql_text("SELECT 1")) == 1
        engine = one.bind
    assert engine.pool.checkedin() == 1
    before = engine.pool
    del one, other, handle
    gc.collect()
    assert engine.pool is not before, "disposed"


def test_a_session_without_sqlalchemy_names_the_extra(orders, session, monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlalchemy.orm", None)
    with (
        pytest.raises(DependencyFailed, match="needs SQLAlchemy") as caught,
        session_of(DRIVER.handle(orders, session)),
    ):
        pass
    assert caught.value.hint == "pip install 'buildflow-platform[sql]'"


# Deaths


def commit_for_ever(root: Path, database: Resource, count: Any) -> None:
    """Each commit has three elements of two rows each, and one that was there before."""
    session = open_session(root)
    sink = DRIVER.sink(database, session)
    start = count.value
    for number in range(start, 10**9, 3):
        ids = range(number, number + 3)
        again = [max(number - 1, 0)]
        batch = [Entry(str(id), [{"id": id, "note": "a"}, {"id": id, "note": "b"}]) for id in [*again, *ids]]
        while True:
            try:
                sink.commit("w", batch)
                break
            except ServiceUnavailable:
                continue
        count.value = number + 3


def expect_pairs(session: LocalSession, database: Resource, reported: int) -> None:
    """Every element's rows are there twice-by-two or not at all, and nothing that was reported is missing."""
    found = DRIVER.handle(database, session).query("SELECT id, count(*) AS n FROM orders GROUP BY id ORDER BY id")
    assert {row["n"] for row in found} == {2}
    assert [row["id"] for row in found] == list(range(len(found)))
    assert len(found) >= reported


def wait_for(count: Any, beyond: int) -> None:
    end = time.monotonic() + 90
    while count.value <= beyond:
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_writer_that_is_killed_leaves_whole_elements_and_another_goes_on(orders, root, session):
    count = spawn.Value("q", 0)
    for round in range(5):
        writer = spawn.Process(target=commit_for_ever, args=(root, orders, count))
        writer.start()
        wait_for(count, count.value + 30)
        time.sleep(0.003 * round)
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        expect_pairs(session, orders, count.value)


def test_a_server_that_is_killed_loses_nothing_and_doubles_nothing(orders, root, session):
    count = spawn.Value("q", 0)
    writer = spawn.Process(target=commit_for_ever, args=(root, orders, count))
    writer.start()
    for round in range(5):
        wait_for(count, count.value + 30)
        time.sleep(0.003 * round)
        server_of(root).kill()
    wait_for(count, count.value + 30)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    expect_pairs(session, orders, count.value)


def test_a_commit_whose_server_dies_says_so_and_may_be_repeated(orders, root, session):
    sink, handle = DRIVER.sink(orders, session), DRIVER.handle(orders, session)
    other = psycopg.connect(handle.url)
    other.execute("LOCK TABLE orders")
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(sink.commit, "w", entries("1"))
        while not handle.query("SELECT 1 FROM pg_locks WHERE NOT granted"):
            time.sleep(0.01)
        server_of(root).kill()
        with pytest.raises(ServiceUnavailable, match='database "p-local-orders" does not answer'):
            job.result(90)
    other.close()  # not before: without the lock the commit might end before its server notices
    sink.commit("w", entries("1"))
    assert stored(session, orders) == [1]


# `platform run`

SHOP = """
project: shop
primitives:
  incoming: {type: queue}
  orders: {type: database, table: orders, columns: {id: integer, customer: string}, upsert: [id]}
dependencies:
  alchemy: {type: sql_session, database: orders}
routes:
  GET /count: app:count
consumers:
  store: {source: incoming, handler: app:store, sink: orders, batch: {size: 10}}
"""

APP = """
from sqlalchemy import text

def store(batch: list[dict]) -> list[dict]:
    return batch

def count(alchemy) -> dict:
    return {"n": alchemy.scalar(text("SELECT count(*) FROM orders"))}
"""


def server_id(file: Path) -> str:
    """The process that a server's file names, "" while there is none."""
    with contextlib.suppress(FileNotFoundError, IndexError):
        return file.read_text().split()[0]
    return ""


@pytest.mark.slow
def test_run_keeps_the_server_up_and_takes_it_along_when_it_ends(tmp_path):
    project(tmp_path, SHOP, app=APP)
    data = tmp_path / ".buildflow/local/services/postgres/data/postmaster.pid"
    with running(tmp_path, "--apply") as app:
        app.ready()
        for first in (0, 50):
            lines = "\n".join(json.dumps({"id": id, "customer": "c"}) for id in range(first, first + 50))
            assert platform(tmp_path, "send", "incoming", input=lines).returncode == 0
            until(lambda count=first + 50: app.get_json("/count") == {"n": count})
            if not first:
                server = server_of(tmp_path)
                server.kill()
                until(lambda dead=server.pid: server_id(data) not in ("", str(dead)))
        app.stop()
    until(lambda: not data.exists(), words="it has ended in order")
