"""A table on the local provider: created, altered, written exactly once, read, deleted."""

import multiprocessing
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from buildflow.errors import BuildflowError, InvalidRow, ResourceFailed
from buildflow.ir.columns import Column
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.base import Action, Entry, SeenBefore
from buildflow.primitives.element_ids import mark_of, new_id
from buildflow.primitives.table import duckdb_table
from buildflow.primitives.table.duckdb_file import database
from buildflow.primitives.table.local import DRIVER
from buildflow.types import Table

spawn = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Session:
    root: Path
    dir: Path = Path(".buildflow/local")
    graph: ResourceGraph | None = None
    namespace: str = "p-local"

    def redis(self) -> Any:
        raise AssertionError("a table needs no Redis")

    def close(self) -> None: ...


def text(name: str, **more: Any) -> Column:
    return Column(name=name, kind="string", **more)


def integer(name: str, **more: Any) -> Column:
    return Column(name=name, kind="integer", **more)


def record(name: str, *fields: Column, **more: Any) -> Column:
    return Column(name=name, kind="record", fields=fields, **more)


ORDERS = (integer("id"), text("note", nullable=True))


def resource(*columns: Column, name: str = "orders", **spec: Any) -> Resource:
    return Resource(
        key="orders",
        type="table",
        provider="local",
        name=name,
        id="",
        label="DuckDBTable",
        spec={"type": "table", "dataset": None, "local": {"database": None}} | spec,
        columns=columns or ORDERS,
    )


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path)


def entries(*ids: str) -> list[Entry]:
    return [Entry(id, [{"id": int(id)}]) for id in ids]


def stored(session: Session, table: Resource | None = None) -> list[int]:
    return [row["id"] for row in DRIVER.handle(table or resource(), session).rows(order_by="id")]


# Provision


def test_its_id_and_outputs_name_the_file_as_written(session):
    assert DRIVER.identify(resource(), session) == ".buildflow/local/tables.duckdb:orders"
    elsewhere = resource(dataset="shop", local={"database": "data/x.duckdb"})
    assert DRIVER.identify(elsewhere, session) == "data/x.duckdb:shop.orders"
    assert DRIVER.create(elsewhere, session) == {"name": "shop.orders", "database": "data/x.duckdb"}
    assert (session.root / "data" / "x.duckdb").exists()


@pytest.mark.parametrize(("name", "fine"), [("orders", True), ("größe", True), ("a-b", False), ("1a", False)])
def test_names(name, fine):
    assert (DRIVER.check_name(name) == "") is fine


def test_its_life(session):
    table = resource()
    assert not DRIVER.exists(table, session)
    assert DRIVER.content(table, session) == ""
    DRIVER.create(table, session)
    assert DRIVER.exists(table, session)
    assert DRIVER.content(table, session) == ""
    DRIVER.handle(table, session).insert({"id": 1})
    assert DRIVER.content(table, session) == "1 row"
    DRIVER.handle(table, session).insert([{"id": 2}, {"id": 3}])
    assert DRIVER.content(table, session) == "3 rows"
    DRIVER.delete(table, session)
    assert not DRIVER.exists(table, session)
    DRIVER.delete(table, session)


def test_a_table_that_fits_is_adopted_and_another_is_refused(session):
    DRIVER.create(resource(), session)
    DRIVER.handle(resource(), session).insert({"id": 1})
    DRIVER.create(resource(text("note", nullable=True), integer("id")), session)
    assert stored(session) == [1]
    with pytest.raises(ResourceFailed) as caught:
        DRIVER.create(resource(text("id"), text("extra")), session)
    said = str(caught.value)
    assert 'its column "id" is BIGINT, not VARCHAR' in said
    assert 'it has no column "extra"' in said
    assert 'its column "note" is not declared' in said


def test_a_schema_leaves_with_its_last_table(session):
    one, two = resource(dataset="shop"), resource(dataset="shop", name="select")
    for table in (one, two):
        DRIVER.create(table, session)
    assert DRIVER.handle(two, session).name == 'shop."select"'
    DRIVER.delete(one, session)
    assert DRIVER.handle(two, session).query('SELECT * FROM shop."select"') == []
    DRIVER.delete(two, session)
    with database(session.root / session.dir / "tables.duckdb").reading() as connection:
        assert ("shop",) not in connection.execute("SELECT schema_name FROM duckdb_schemas()").fetchall()


# Changes


def changed(session: Session, old: Resource, new: Resource, *rows: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Store rows, compare, update: the change and the rows after it. The file has the declared columns then."""
    DRIVER.create(old, session)
    DRIVER.handle(old, session).insert(rows)
    change = DRIVER.compare(old, new, session)
    DRIVER.update(old, new, session)
    assert DRIVER.compare(new, new, session).action is Action.NONE
    DRIVER.create(new, session)  # adopts it only if its columns match
    return change, DRIVER.handle(new, session).rows()


@pytest.mark.parametrize(
    ("new", "fields", "after"),
    [
        ((*ORDERS, text("extra", nullable=True)), "columns.extra: added", {"extra": None}),
        (
            (*ORDERS, text("extra", nullable=True, has_default=True, default="it's")),
            "columns.extra: added",
            {"extra": "it's"},
        ),
        (
            (*ORDERS, text("extra", has_default=True, default="it's")),
            "columns.extra: added",
            {"extra": "it's"},
        ),
        (
            (*ORDERS, text("tags", repeated=True, has_default=True, default=["a"])),
            "columns.tags: added",
            {"tags": ["a"]},
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
def test_changes_in_place_lose_nothing(session, new, fields, after):
    change, rows = changed(session, resource(), resource(*new), {"id": 7})
    assert (change.action, change.loses_data) == (Action.UPDATE, "")
    assert fields in change.fields
    assert rows == [{"id": 7, "note": None} | after]


def test_what_duckdb_refuses_is_said_and_changes_nothing(session):
    DRIVER.create(resource(), session)
    DRIVER.handle(resource(), session).insert({"id": 1})
    twice = resource(*ORDERS, text("Note", nullable=True))
    with pytest.raises(ResourceFailed, match=r'table "orders" in .* DuckDB refuses'):
        DRIVER.update(resource(), twice, session)
    assert stored(session) == [1]


def test_columns_in_another_order_are_no_change(session):
    assert DRIVER.compare(resource(), resource(*reversed(ORDERS)), session).action is Action.NONE


@pytest.mark.parametrize("repeated", [False, True])
def test_nested_fields_change_in_place(session, repeated):
    def found(*fields: Column) -> Resource:
        inner = record("deep", *fields, nullable=True)
        return resource(integer("id"), record("found", text("label"), inner, repeated=repeated, nullable=True))

    def row(id: int, deep: Any) -> dict[str, Any]:
        value = {"label": "a", "deep": deep}
        return {"id": id, "found": [value, value] if repeated else value}

    new = found(
        Column(name="n", kind="float"),
        text("note", nullable=True),
        text("kind", has_default=True, default="it's"),
        Column(name="at", kind="timestamp", nullable=True),
    )
    rows = [row(1, {"n": 1}), row(2, None), {"id": 3, "found": None}]
    change, after = changed(session, found(integer("n")), new, *rows)
    assert (change.action, change.loses_data) == (Action.UPDATE, "")
    assert "columns.found.deep.note: added" in change.fields
    deep = {"n": 1.0, "note": None, "kind": "it's", "at": None}
    assert after == [row(1, deep), row(2, None), {"id": 3, "found": None}]


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
    ],
)
def test_what_loses_data_says_what(session, new, loses, after):
    change, rows = changed(session, resource(), resource(*new), {"id": 1, "note": "x"}, {"id": 2})
    assert (change.action, change.loses_data) == (Action.UPDATE, loses)
    assert rows == after


@pytest.mark.parametrize(
    ("new", "loses"),
    [
        (
            resource(*ORDERS, integer("extra")),
            'all rows of orders: column "extra" is required and has no default',
        ),
        (
            resource(text("id"), ORDERS[1]),
            'all rows of orders: the values of column "id" (integers), which is to hold text, '
            "is required and has no default",
        ),
        (resource(dataset="shop"), "all rows of orders: it is created anew in shop"),
        (
            resource(local={"database": "b.duckdb"}),
            "all rows of orders: it is created anew in b.duckdb",
        ),
    ],
)
def test_what_keeps_no_row_replaces_the_table(session, new, loses):
    change, rows = changed(session, resource(), new, {"id": 1})
    assert (change.action, change.loses_data) == (Action.REPLACE, loses)
    assert rows == []


def test_a_new_name_keeps_rows_and_ids(session):
    new = resource(*ORDERS, text("extra", nullable=True), name="order")
    DRIVER.create(resource(), session)
    DRIVER.sink(resource(), session).commit("w", entries("1"))
    assert DRIVER.compare(resource(), new, session).fields[0] == "name: orders -> order"
    DRIVER.update(resource(), new, session)
    DRIVER.sink(new, session).commit("w", entries("1", "2"))
    assert stored(session, new) == [1, 2]
    assert not DRIVER.exists(resource(), session)


# The sink


def test_rows_of_an_element_are_written_once(session):
    DRIVER.create(resource(), session)
    sink = DRIVER.sink(resource(), session)
    assert sink.guarantee == "effectively once"
    sink.commit("w", entries("1", "2", "1"))
    sink.commit("w", entries("2", "3"))
    assert stored(session) == [1, 2, 3]
    sink.commit("other", entries("3"))
    assert stored(session) == [1, 2, 3, 3]
    sink.commit("w", [Entry("9", [])])
    sink.commit("w", [Entry("9", [{"id": 9}])])
    assert stored(session) == [1, 2, 3, 3], "an element that had no row is done too"
    sink.commit("w", [Entry("", [{"id": 10}]), Entry("", [{"id": 10}])])
    assert stored(session)[-2:] == [10, 10], "what bears no id is always written"
    sink.close()


def test_what_must_be_fresh_is_refused_whole_when_an_element_was_seen(session):
    DRIVER.create(resource(), session)
    sink = DRIVER.sink(resource(), session)
    sink.commit("w", entries("1"))
    for ids in (["1", "2"], ["2", "1"], ["2", "2"]):
        with pytest.raises(SeenBefore):
            sink.commit("w", entries(*ids), fresh=True)
    assert stored(session) == [1]
    sink.commit("w", entries("2", "3"), fresh=True)
    sink.commit("other", entries("3"), fresh=True)
    assert stored(session) == [1, 2, 3, 3]


def test_one_element_goes_to_two_tables(session):
    other = resource(name="others")
    for table in (resource(), other):
        DRIVER.create(table, session)
        DRIVER.sink(table, session).commit("w", entries("1"))
        DRIVER.sink(table, session).commit("w", entries("1"))
    assert stored(session) == stored(session, other) == [1]


def test_a_table_made_anew_takes_every_element_again(session):
    for _ in range(2):
        DRIVER.create(resource(), session)
        DRIVER.sink(resource(), session).commit("w", entries("1"))
        assert stored(session) == [1]
        DRIVER.delete(resource(), session)
    for _ in range(2):
        DRIVER.create(resource(), session)
        DRIVER.sink(resource(), session).commit("w", entries("1"))
        assert stored(session) == [1]
        by_hand(session, "DROP TABLE orders")


def test_a_sink_goes_on_when_its_table_was_made_anew(session):
    DRIVER.create(resource(), session)
    sink = DRIVER.sink(resource(), session)
    sink.commit("w", entries("1"))
    DRIVER.delete(resource(), session)
    DRIVER.create(resource(), session)
    sink.commit("w", entries("1", "2"))
    sink.commit("w", entries("2"))
    assert stored(session) == [1, 2]


def by_hand(session: Session, statement: str) -> None:
    database(session.root / session.dir / "tables.duckdb").write(lambda connection: connection.execute(statement))


def test_a_table_that_is_there_already_keeps_what_it_knows_of_its_elements(session):
    for _ in range(2):
        DRIVER.create(resource(), session)
        DRIVER.sink(resource(), session).commit("w", entries("1"))
    assert stored(session) == [1]


def test_a_commit_to_a_table_that_is_gone_leaves_nothing_behind(session):
    DRIVER.create(resource(), session)
    DRIVER.create(resource(name="others"), session)
    DRIVER.delete(resource(), session)
    with pytest.raises(ResourceFailed):
        DRIVER.sink(resource(), session).commit("w", entries("1"))
    tables = "SELECT table_name FROM duckdb_tables() WHERE schema_name = '_buildflow'"
    assert DRIVER.handle(resource(name="others"), session).query(tables) == [{"table_name": "main.others"}]


def test_a_table_that_is_renamed_remembers_its_elements_and_none_of_what_had_the_name_before(session):
    sales = resource(name="sales")
    DRIVER.create(sales, session)
    DRIVER.sink(sales, session).commit("w", entries("2"))
    by_hand(session, "DROP TABLE sales")
    DRIVER.create(resource(), session)
    DRIVER.sink(resource(), session).commit("w", entries("1"))
    DRIVER.update(resource(), sales, session)
    DRIVER.sink(sales, session).commit("w", entries("1", "2"))
    assert stored(session, sales) == [1, 2]
    capital = resource(name="Sales")  # the same name, to DuckDB
    DRIVER.update(sales, capital, session)
    DRIVER.sink(capital, session).commit("w", entries("1", "2"))
    assert stored(session, capital) == [1, 2]


def test_an_element_is_told_from_all_others_whatever_ids_they_have(session):
    DRIVER.create(resource(), session)
    sink = DRIVER.sink(resource(), session)
    ids = [new_id() for _ in range(1000)]
    ids += [f"{number:012x}8abc8abc{moment * 12}" for moment in "0f" for number in range(1000)]
    ids += [f"another's {number}" for number in range(1000)]
    for start in range(0, len(ids), 500):
        sink.commit("w", [Entry(id, [{"id": start + n}]) for n, id in enumerate(ids[start : start + 500])])
    sink.commit("w", [Entry(id, [{"id": -1}]) for id in random.sample(ids, 2000)])
    assert stored(session) == list(range(4000))


def test_marks_whose_first_halves_are_the_same_are_told_apart(session):
    DRIVER.create(resource(), session)
    sink = DRIVER.sink(resource(), session)
    sink.commit("w", entries("1", "2"))
    by_hand(session, 'UPDATE _buildflow."main.orders" SET rest = rest - 1')
    sink.commit("w", entries("1", "2", "1"))
    sink.commit("w", entries("2"))
    assert stored(session) == [1, 1, 2, 2]


def test_a_bad_row_takes_its_whole_commit_and_no_other(session):
    DRIVER.create(resource(), session)
    sink = DRIVER.sink(resource(), session)
    with pytest.raises(InvalidRow, match='column "id" holds integers, this row has text'):
        sink.check({"id": "x"})
    sink.check({"id": 1})
    assert stored(session) == []
    with pytest.raises(InvalidRow):
        sink.commit("w", [*entries("1"), Entry("2", [{"id": "x"}])])
    sink.commit("w", entries("1"))
    assert stored(session) == [1]


def test_a_table_that_is_not_applied_says_so(session):
    DRIVER.create(resource(), session)
    with pytest.raises(ResourceFailed, match='table "gone"') as caught:
        DRIVER.sink(resource(name="gone"), session).commit("w", entries("1"))
    assert caught.value.hint == "run: platform apply"
    with pytest.raises(ResourceFailed, match=r'"orders" .* is not as declared'):
        DRIVER.sink(resource(*ORDERS, text("new", nullable=True)), session).commit("w", entries("1"))
    assert stored(session) == []


def test_old_marks_are_pruned_now_and_then(session, monkeypatch):
    DRIVER.create(resource(), session)
    DRIVER.sink(resource(), session).commit("w", entries("0"))
    old = 'INSERT INTO _buildflow."main.orders" SELECT 7, 7, now() - INTERVAL 16 DAYS'
    by_hand(session, old)
    sink = DRIVER.sink(resource(), session)
    sink.commit("w", entries("1"))
    count = 'SELECT count(*) AS n FROM _buildflow."main.orders"'
    assert DRIVER.handle(resource(), session).query(count) == [{"n": 2}]
    by_hand(session, old)
    sink.commit("w", entries("2"))
    assert DRIVER.handle(resource(), session).query(count) == [{"n": 4}], "not in each commit"
    monkeypatch.setattr(duckdb_table.time, "monotonic", lambda: 1e9)
    sink.commit("w", entries("3"))
    assert DRIVER.handle(resource(), session).query(count) == [{"n": 4}]


def commit_all(root: Path, ids: list[str]) -> None:
    sink = DRIVER.sink(resource(), Session(root))
    for id in ids:
        sink.commit("w", entries(id))


def test_the_same_elements_from_two_processes_are_written_once(session):
    DRIVER.create(resource(), session)
    ids = [str(i) for i in range(100)]
    processes = [spawn.Process(target=commit_all, args=(session.root, ids)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0, 0]
    assert stored(session) == list(range(100))


def test_many_threads_share_commits_and_each_element_is_written_once(session):
    DRIVER.create(resource(), session)
    sinks = [DRIVER.sink(resource(), session) for _ in range(2)]
    with ThreadPoolExecutor(16) as pool:
        for job in [pool.submit(sinks[n % 2].commit, "w", entries(str(n // 2))) for n in range(400)]:
            job.result()
    assert stored(session) == list(range(200))


def commit_for_ever(root: Path, count: Any) -> None:
    """Each commit has three elements of two rows each, and one that was there before."""
    sink = DRIVER.sink(resource(), Session(root))
    start = count.value
    for number in range(start, 10**9, 3):
        ids = range(number, number + 3)
        sink.commit("w", [Entry(str(i), [{"id": i}, {"id": i}]) for i in (start, *ids)])
        count.value = number + 3


@pytest.mark.slow
def test_rows_and_ids_agree_whenever_the_writer_is_killed(session):
    DRIVER.create(resource(), session)
    count = spawn.Value("i", 0)
    chance = random.Random(2)
    for _ in range(12):
        reported = count.value
        process = spawn.Process(target=commit_for_ever, args=(session.root, count))
        process.start()
        while count.value < reported + 30:  # it is in its loop
            assert process.is_alive()
            process.join(0.005)
        process.join(chance.random() * 0.15)  # killed anywhere in a commit
        process.kill()
        process.join()
        handle = DRIVER.handle(resource(), session)
        rows = handle.query("SELECT id, count(*) AS n FROM orders GROUP BY id ORDER BY id")
        marks = [(m["key"] << 64) + m["rest"] for m in handle.query('SELECT * FROM _buildflow."main.orders"')]
        assert {row["n"] for row in rows} == {2}
        assert sorted(mark_of("w", str(row["id"])) for row in rows) == sorted(marks)
        assert set(range(count.value)) <= {row["id"] for row in rows}, "what was reported is durable"


# The handle


def test_it_is_a_table(session):
    DRIVER.create(resource(), session)
    handle = DRIVER.handle(resource(), session)
    assert isinstance(handle, Table)
    assert handle.insert([{"id": i, "note": f"n{i}"} for i in range(5)]) == 5
    assert handle.rows(where="id > ? -- comment", parameters=[2], order_by="id DESC", limit=1) == [
        {"id": 4, "note": "n4"}
    ]
    assert handle.query(f"SELECT sum(id) AS total, sum(id) AS total FROM {handle.name};") == [
        {"total": 10, "total_1": 10}
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO orders VALUES (1, 'x')",
        "DELETE FROM orders",
        "SELECT 1; DROP TABLE orders",
        "COMMIT",
        "COPY orders TO 'stolen.csv'",
        "ATTACH 'other.duckdb'",
        "WITH new AS (INSERT INTO orders VALUES (1, 'x') RETURNING id) SELECT * FROM new",
        "SELECT nonsense FROM orders",
        "SELEC",
    ],
)
@pytest.mark.parametrize("while_writing", [False, True])
def test_a_query_reads_only(session, sql, while_writing):
    DRIVER.create(resource(), session)
    handle = DRIVER.handle(resource(), session)

    def refused() -> None:
        with pytest.raises(BuildflowError, match=r"a query is one SELECT|DuckDB refuses"):
            handle.query(sql)

    file = database(session.root / session.dir / "tables.duckdb")
    if while_writing:  # from another thread, so that it borrows the writer's instance
        with ThreadPoolExecutor() as pool:
            file.write(lambda _: pool.submit(refused).result())
    else:
        refused()
    assert stored(session) == []
    assert not Path("stolen.csv").exists()


def test_a_query_gives_aware_times_and_plain_values(session):
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    inner = (Column(name="at", kind="timestamp"), Column(name="raw", kind="bytes"))
    table = resource(
        Column(name="at", kind="timestamp"), record("list", *inner, repeated=True), Column(name="j", kind="json")
    )
    DRIVER.create(table, session)
    handle = DRIVER.handle(table, session)
    row = {"at": moment, "list": [{"at": moment, "raw": b"\0\xff"}], "j": {"a": [1]}}
    handle.insert(row)
    assert handle.rows() == [row]
    assert handle.rows(where='"at" = ?', parameters=[moment]) == [row]
    assert handle.query("SELECT max(o.at) AS m, MAP {'k': max(o.at)} AS k FROM orders AS o ORDER BY 1") == [
        {"m": moment, "k": {"k": moment}}
    ]
    assert handle.query("SELECT o.at FROM orders AS o WHERE o.at < now()") == [{"at": moment}]
    path = session.root / session.dir / "tables.duckdb"
    if (writer := database(path)._thread) is not None:
        writer.join()  # it lets go of the file a moment after the write returned
    plain = duckdb.connect(path, read_only=True)
    assert plain.execute("SELECT epoch_us(o.at) FROM orders AS o").fetchone() == (1767323045000006,)
    plain.close()
