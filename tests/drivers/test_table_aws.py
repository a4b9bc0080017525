"""`table` on AWS: DuckDB as on the local stack, and MotherDuck, for which a DuckDB file stands in."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from buildflow.errors import BuildflowError, InvalidRow, ServiceUnavailable, UnknownName
from buildflow.ir.columns import Column
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.base import Action, Entry, SeenBefore
from buildflow.primitives.table import TableSpec, motherduck
from buildflow.primitives.table.aws import DRIVER
from buildflow.primitives.table.duckdb_file import database
from buildflow.providers.aws import AwsSession
from buildflow.types import Table

ORDERS = (Column(name="id", kind="integer"), Column(name="note", kind="string", nullable=True))


def table(*columns: Column, database: str | None = None, **fields: Any) -> Resource:
    spec = TableSpec(type="table", columns="app:Order", aws={"database": database}, **fields)
    name = DRIVER.name("orders", spec, "shop", "aws")
    return Resource(
        key="orders",
        type="table",
        provider="aws",
        name=name,
        id="",
        label=DRIVER.label,
        spec=spec.model_dump(mode="json", exclude={"type", "provider", "managed", "name", "local", "gcp"}),
        columns=columns or ORDERS,
    )


@pytest.fixture
def session(tmp_path: Path) -> Iterator[AwsSession]:
    graph = ResourceGraph(project="shop", stack="aws")
    session = AwsSession(graph, tmp_path, tmp_path / ".buildflow/aws", "shop-aws", None, {})
    yield session
    session.close()


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens with which MotherDuck was asked."""
    seen: list[str] = []

    def connect(name: str, token: str) -> Any:
        seen.append(token)
        return duckdb.connect(str(tmp_path / f"{name.removeprefix('md:')}.motherduck"))

    monkeypatch.setattr(motherduck, "connect", connect)
    monkeypatch.setattr(motherduck, "_opened", {})
    monkeypatch.setenv("MOTHERDUCK_TOKEN", "a-token")
    return seen


PLACES = [None, "data/shared.duckdb", "md:analytics"]


def test_in_a_database_of_others_its_name_bears_project_and_stack() -> None:
    assert table().name == "orders"
    assert table(database="md:analytics").name == table(database="x.duckdb").name == "shop_aws_orders"
    assert table(database="md:analytics", name="orders").name == "orders"


def test_its_id_says_where_it_is(session: AwsSession) -> None:
    place = type("Place", (), {"dir": Path(".buildflow/aws")})
    assert DRIVER.identify(table(), place) == ".buildflow/aws/tables.duckdb:orders"
    assert DRIVER.identify(table(database="data/x.duckdb"), place) == "data/x.duckdb:shop_aws_orders"
    assert DRIVER.identify(table(database="md:analytics", dataset="eu"), place) == "md:analytics:eu.shop_aws_orders"


@pytest.mark.parametrize("database", PLACES)
def test_its_life(session: AwsSession, token: list[str], database: str | None) -> None:
    orders = table(database=database, dataset="eu")
    assert not DRIVER.exists(orders, session)
    assert DRIVER.content(orders, session) == ""
    assert DRIVER.create(orders, session)["name"] == f"eu.{orders.name}"
    assert DRIVER.create(orders, session), "what is there already is adopted"
    assert DRIVER.exists(orders, session)
    handle = DRIVER.handle(orders, session)
    assert isinstance(handle, Table)
    assert handle.insert([{"id": 1}, {"id": 2, "note": "ü"}]) == 2
    assert handle.rows(order_by="id") == [{"id": 1, "note": None}, {"id": 2, "note": "ü"}]
    assert DRIVER.content(orders, session) == "2 rows"
    more = table(*ORDERS, Column(name="price", kind="float", nullable=True), database=database, dataset="eu")
    assert DRIVER.compare(orders, more, session).action is Action.UPDATE
    DRIVER.update(orders, more, session)
    assert DRIVER.handle(more, session).rows(where="id = ?", parameters=[1]) == [{"id": 1, "note": None, "price": None}]
    DRIVER.delete(more, session)
    assert not DRIVER.exists(more, session)
    assert token == (["a-token"] if database == "md:analytics" else [])


@pytest.mark.parametrize("database", PLACES)
def test_what_comes_again_is_written_once(session: AwsSession, token: list[str], database: str | None) -> None:
    orders = table(database=database)
    DRIVER.create(orders, session)
    sink = DRIVER.sink(orders, session)
    assert sink.guarantee == "effectively once"
    sink.commit("c", [])
    for _ in range(2):
        sink.commit("c", [Entry("1", [{"id": 1}]), Entry("2", [{"id": 2}])])
    with pytest.raises(SeenBefore):
        sink.commit("c", [Entry("2", [{"id": 2}]), Entry("3", [{"id": 3}])], fresh=True)
    with pytest.raises(InvalidRow):
        sink.check({"id": "x"})
    assert [row["id"] for row in DRIVER.handle(orders, session).rows(order_by="id")] == [1, 2]


@pytest.mark.parametrize(("days", "written"), [(14, 1), (16, 2)])
def test_an_id_is_kept_for_longer_than_sqs_keeps_a_message(session: AwsSession, days: int, written: int) -> None:
    orders = table(database="data/shared.duckdb")
    DRIVER.create(orders, session)
    entry = Entry("1", [{"id": 1}])
    DRIVER.sink(orders, session).commit("c", [entry])
    older = f'UPDATE _buildflow."main.shop_aws_orders" SET "at" = now() - INTERVAL {days} DAYS'
    database(session.root / "data/shared.duckdb").write(lambda connection: connection.execute(older))
    DRIVER.sink(orders, session).commit("c", [Entry("2", [])])  # it prunes
    DRIVER.sink(orders, session).commit("c", [entry])
    assert len(DRIVER.handle(orders, session).rows()) == written


def test_writers_of_motherduck_take_turns(session: AwsSession, token: list[str]) -> None:
    orders = table(database="md:analytics")
    DRIVER.create(orders, session)
    sink = DRIVER.sink(orders, session)
    failures: list[Exception] = []

    def write() -> None:
        try:
            for number in range(10):
                sink.commit("c", [Entry(str(number), [{"id": number}])])
        except Exception as exc:  # noqa: BLE001 - told below
            failures.append(exc)

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []
    assert [row["id"] for row in DRIVER.handle(orders, session).rows(order_by="id")] == list(range(10))


def test_reading_motherduck_reads_only(session: AwsSession, token: list[str]) -> None:
    orders = table(database="md:analytics")
    DRIVER.create(orders, session)
    handle = DRIVER.handle(orders, session)
    for sql in (f"DELETE FROM {handle.name}", "SELECT 1; SELECT 2", "SELECT nothing"):
        with pytest.raises(BuildflowError):
            handle.query(sql)
    assert handle.query("SELECT 1 AS one") == [{"one": 1}]


def test_motherduck_signs_in_with_a_secret_that_is_never_told(
    session: AwsSession, token: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, token: str) -> Any:
        raise duckdb.InvalidInputException(f"the token {token} is no good")

    orders = table(database="md:analytics")
    monkeypatch.setattr(motherduck, "connect", refuse)
    with pytest.raises(ServiceUnavailable) as caught:
        DRIVER.exists(orders, session)
    assert str(caught.value).startswith("MotherDuck does not answer for md:analytics: the token")
    assert "a-token" not in str(caught.value)
    assert "MOTHERDUCK_TOKEN" in caught.value.hint
    monkeypatch.delenv("MOTHERDUCK_TOKEN")
    monkeypatch.setattr(motherduck, "_opened", {})
    session.secrets = AwsSession(session.graph, session.root, session.dir, "", None, {}).secrets
    with pytest.raises(
        UnknownName, match=r"the secret MOTHERDUCK_TOKEN is not set; looked for in the environment, \.env"
    ):
        DRIVER.exists(orders, session)


def test_another_place_is_another_table(session: AwsSession, token: list[str]) -> None:
    old, new = table(name="orders"), table(database="md:analytics", name="orders")
    DRIVER.create(old, session)
    DRIVER.handle(old, session).insert({"id": 1})
    change = DRIVER.compare(old, new, session)
    assert change.action is Action.REPLACE
    assert change.fields == ("aws.database: .buildflow/aws/tables.duckdb -> md:analytics",)
    assert "all rows of orders" in change.loses_data
    DRIVER.update(old, new, session)
    assert not DRIVER.exists(old, session)
    assert DRIVER.handle(new, session).rows() == []


def test_motherduck_after_a_fork(session: AwsSession, token: list[str], tmp_path: Path) -> None:
    orders = table(database="md:analytics")
    store = motherduck.motherduck("md:analytics", session.secrets)
    DRIVER.create(orders, session)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            connect = lambda name, token: duckdb.connect(":memory:")  # noqa: E731 - DuckDB's file is the parent's
            motherduck.connect = connect
            with store.reading() as connection:
                os.write(writing, str(connection.execute("SELECT 7").fetchone()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as answer:
        assert answer.read() == "(7,)"
    os.waitpid(child, 0)
    assert DRIVER.exists(orders, session)
