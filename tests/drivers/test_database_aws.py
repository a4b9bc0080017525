"""`database` on AWS: how RDS is signed in to and made ready. The embedded PostgreSQL stands in for the server, moto for
Secrets Manager; what the sink and the handle do is tested with the local database."""

import itertools
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from buildflow.errors import NotApplied, ResourceFailed, ServiceUnavailable
from buildflow.ir.columns import Column
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.base import Entry, Role
from buildflow.primitives.database import DatabaseSpec
from buildflow.primitives.database.aws import DRIVER
from buildflow.primitives.database.rds import RDSPool
from buildflow.providers.aws import AwsSession
from buildflow.providers.secret_mask import masked
from buildflow.types import Database
from tests.moto import Moto, session_on

_numbers = itertools.count()
ORDERS = (Column(name="id", kind="integer"), Column(name="note", kind="string", nullable=True))


@pytest.fixture(scope="module")
def session(aws: Moto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsSession]:
    session = session_on(aws, tmp_path_factory.mktemp("stack"))
    yield session
    session.close(wait=5)


@pytest.fixture
def declare(aws: Moto, session: AwsSession) -> Callable[..., Resource]:
    """A database on a server that exists, and its sign-in in Secrets Manager."""

    def make(*columns: Column, name: str = "", create: bool = True, **fields: Any) -> Resource:
        name = name or f"orders_{next(_numbers)}"
        server = session.postgres().url()
        host = parse_qs(urlsplit(server).query)["host"][0]
        port = parse_qs(urlsplit(server).query)["port"][0]
        if create:
            with psycopg.connect(server, autocommit=True) as connection:
                connection.execute(f'CREATE DATABASE "{name}"'.encode())
        sign_in = json.dumps({"username": "postgres", "password": f"pass/wörd of {name}"})
        secret = aws.client("secretsmanager").create_secret(Name=name, SecretString=sign_in)["ARN"]
        spec = DatabaseSpec(type="database", table="orders", columns="app:Order", **fields).model_dump(mode="json")
        made = Resource(
            key="orders",
            type="database",
            provider="aws",
            name=name,
            id=f"rds://{name}",
            label=DRIVER.label,
            spec=spec,
            columns=columns or ORDERS,
            references={"instance": "other"} if fields.get("instance") else {},
            outputs={"name": name, "host": host, "port": int(port), "user": "postgres", "secret_arn": secret},
        )
        session.graph = ResourceGraph(project="shop", stack="aws", resources=(made,))
        return made

    return make


def rows(resource: Resource, session: AwsSession) -> list[dict[str, Any]]:
    handle = DRIVER.handle(resource, session)
    try:
        found: list[dict[str, Any]] = handle.query("SELECT * FROM orders ORDER BY id")
        return found
    finally:
        handle.close()


def test_its_password_is_its_only_permission() -> None:
    spec = DatabaseSpec(type="database")
    name = DRIVER.name("orders", spec, "shop", "aws")
    resource = Resource(key="orders", type="database", provider="aws", name=name, id="", label="", spec={})
    [grant] = DRIVER.grants(resource, Role.STORE)
    assert (name, grant.actions, grant.on) == ("shop-aws-orders", ("secretsmanager:GetSecretValue",), "secret_arn")
    assert DRIVER.identify(resource, None) == "rds://shop-aws-orders"


def test_rows_are_written_once_into_a_table_that_nobody_made(
    declare: Callable[..., Resource], session: AwsSession
) -> None:
    resource = declare()
    sink = DRIVER.sink(resource, session)
    sink.commit("c", [])
    assert rows(resource, session) == []
    for _ in range(2):
        sink.commit("c", [Entry("1", [{"id": 1}]), Entry("2", [{"id": 2, "note": "ü"}])])
    assert rows(resource, session) == [{"id": 1, "note": None}, {"id": 2, "note": "ü"}]
    assert sink.guarantee == "effectively once"
    sink.close()


def test_a_handle_alone_makes_the_table_too(declare: Callable[..., Resource], session: AwsSession) -> None:
    resource = declare()
    handle = DRIVER.handle(resource, session)
    assert isinstance(handle, Database)
    assert handle.query("SELECT count(*) AS n FROM orders") == [{"n": 0}]
    handle.close()


def test_processes_that_come_first_together_make_one_table(
    declare: Callable[..., Resource], session: AwsSession
) -> None:
    resource = declare(upsert=["id"])

    def first(number: int) -> None:
        sink = DRIVER.sink(resource, session)
        sink.commit("c", [Entry(str(number), [{"id": number % 3}])])
        sink.close()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(first, range(24)))
    assert [row["id"] for row in rows(resource, session)] == [0, 1, 2]


def test_the_table_gains_columns_and_loses_nothing(declare: Callable[..., Resource], session: AwsSession) -> None:
    old = declare()
    sink = DRIVER.sink(old, session)
    sink.commit("c", [Entry("1", [{"id": 1}])])
    sink.close()
    more = (*ORDERS, Column(name="price", kind="float", has_default=True, default=1.5))
    assert rows(old.model_copy(update={"columns": more}), session) == [{"id": 1, "note": None, "price": 1.5}]
    fewer = (ORDERS[0], more[2])
    assert rows(old.model_copy(update={"columns": fewer}), session)[0].keys() == {"id", "note", "price"}, "it is kept"
    for wrong, words in (
        ((*more, Column(name="needed", kind="integer")), "needed"),
        ((Column(name="id", kind="string"), *more[1:]), 'its column "id" is bigint, not text'),
    ):
        with pytest.raises(ResourceFailed, match=words):
            rows(old.model_copy(update={"columns": wrong}), session)


def test_a_database_that_shares_a_server_is_made_by_whoever_comes_first(
    declare: Callable[..., Resource], session: AwsSession
) -> None:
    server = declare().model_copy(update={"key": "other"})
    second = declare(name=f"second_{next(_numbers)}", create=False, instance="other")
    session.graph = ResourceGraph(project="shop", stack="aws", resources=(server, second))

    def first(number: int) -> None:
        sink = DRIVER.sink(second, session)
        sink.commit("c", [Entry(str(number), [{"id": number}])])
        sink.close()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(first, range(4)))
    assert [row["id"] for row in rows(second, session)] == [0, 1, 2, 3]


def test_a_database_that_is_gone_is_not_made_again(declare: Callable[..., Resource], session: AwsSession) -> None:
    with pytest.raises(ResourceFailed, match="does not exist"):
        rows(declare(create=False), session)


def test_its_url_holds_the_password_and_asks_for_encryption(
    declare: Callable[..., Resource], session: AwsSession
) -> None:
    resource = declare()
    outputs = {**resource.outputs, "host": "db.rds.amazonaws.com", "port": 5432}
    url = DRIVER.handle(resource.model_copy(update={"outputs": outputs}), session).url
    password = f"pass/wörd of {resource.name}"
    assert psycopg.conninfo.conninfo_to_dict(url) == {
        "user": "postgres",
        "password": password,
        "host": "db.rds.amazonaws.com",
        "port": "5432",
        "dbname": resource.name,
        "sslmode": "require",
    }
    assert password not in masked(f"it is {password}"), "no log tells it"


def test_a_password_that_was_replaced_is_asked_for_again(
    aws: Moto, declare: Callable[..., Resource], session: AwsSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = declare()
    pool = RDSPool(resource, session)
    assert "of%20orders" in pool.url()
    replaced = json.dumps({"username": "postgres", "password": "new"})
    aws.client("secretsmanager").put_secret_value(SecretId=resource.outputs["secret_arn"], SecretString=replaced)
    connect, tried = psycopg.connect, []

    def refuse_the_old(url: str, **options: Any) -> Any:
        tried.append(urlsplit(url).password)
        if tried[-1] != "new":
            raise psycopg.OperationalError('FATAL:  password authentication failed for user "postgres"')
        return connect(url, **options)

    monkeypatch.setattr(psycopg, "connect", refuse_the_old)
    with pool.connection() as connection:
        assert connection.execute("SELECT 7").fetchone() == (7,)
    assert len(tried) == 2
    pool.close()


def test_what_cannot_be_signed_in_to_is_said(
    aws: Moto, declare: Callable[..., Resource], session: AwsSession, tmp_path: Path
) -> None:
    resource = declare()
    with pytest.raises(NotApplied, match='database "orders" has no address yet'):
        DRIVER.handle(resource.model_copy(update={"outputs": {}}), session)
    gone = resource.model_copy(update={"outputs": {**resource.outputs, "secret_arn": "nowhere"}})
    with pytest.raises(Exception, match='the password of database "orders"'):
        rows(gone, session)
    aws.client("secretsmanager").put_secret_value(SecretId=resource.outputs["secret_arn"], SecretString="[]")
    with pytest.raises(ResourceFailed, match='is no JSON object with a "password"'):
        rows(resource, session)
    nowhere = resource.model_copy(update={"outputs": {**resource.outputs, "host": str(tmp_path), "secret_arn": ""}})
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        rows(nowhere, session)


def test_of_a_server_that_is_not_managed_here_the_file_says_the_password(
    declare: Callable[..., Resource], session: AwsSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "of the file")
    resource = declare(password="${secret.DB_PASSWORD}")
    unmanaged = resource.model_copy(update={"outputs": {**resource.outputs, "secret_arn": ""}})
    assert "of%20the%20file" in DRIVER.handle(unmanaged, session).url


def test_it_works_after_a_fork(declare: Callable[..., Resource], session: AwsSession) -> None:
    resource = declare()
    handle = DRIVER.handle(resource, session)
    handle.execute("INSERT INTO orders (id) VALUES (1)")
    child = os.fork()
    if child == 0:
        try:
            handle.execute("INSERT INTO orders (id) VALUES (2)")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert handle.query("SELECT count(*) AS n FROM orders") == [{"n": 2}]
    handle.close()
