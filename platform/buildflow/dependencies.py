"""Dependencies that the platform brings: what `type:` below `dependencies:` stands for.

Each is a factory like a user's own; its parameters are the fields of its model in `buildflow.spec.project`.
"""

import os
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from fastapi import Depends, Header
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from buildflow.errors import DependencyFailed
from buildflow.types import Database

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.orm import Session


class OfRequest:
    """A dependency that FastAPI reads from the request and shows in the API's documentation."""

    def __init__(self, reader: Callable[..., Callable[..., Any]]) -> None:
        self.reader = reader
        """Its settings to a dependency in FastAPI's sense."""

    def __call__(self, **_settings: Any) -> NoReturn:
        """Raises `DependencyFailed`: only the gateway has a request, and it asks the reader."""
        raise DependencyFailed(f"`{self.reader.__name__}` is read from a request, and only routes have one")


@OfRequest
def header(name: str, required: bool = True, default: str | None = None) -> Callable[..., Any]:
    """One header's value. FastAPI answers 422 where it is required and not there."""
    if required:

        async def required_value(value: Annotated[str, Header(alias=name)]) -> str:
            return value

        return required_value

    async def optional_value(value: Annotated[str | None, Header(alias=name)] = default) -> str | None:
        return value

    return optional_value


@OfRequest
def bearer_token(required: bool = True) -> Callable[..., Any]:
    """The token of `Authorization: Bearer ...`. FastAPI answers 401 where it is required and not there.

    Source: https://datatracker.ietf.org/doc/html/rfc6750#section-2.1
    """
    scheme = HTTPBearer(auto_error=required)

    async def token(found: Annotated[HTTPAuthorizationCredentials | None, Depends(scheme)]) -> str | None:
        return found.credentials if found else None

    return token


async def http_client(base_url: str, timeout: float, headers: Mapping[str, str]) -> AsyncIterator[Any]:
    """An `httpx2.AsyncClient`, closed when its process ends."""
    try:
        import httpx2 as httpx
    except ModuleNotFoundError as exc:
        raise DependencyFailed("http_client needs httpx2", hint="pip install 'buildflow-platform[http]'") from exc
    async with httpx.AsyncClient(base_url=base_url, timeout=timeout, headers=dict(headers)) as client:
        yield client


def sql_session(database: Database, expire_on_commit: bool, autoflush: bool) -> "Iterator[Session]":
    """A `sqlalchemy.orm.Session`: what it did not commit is rolled back when its request or element ends."""
    try:
        from sqlalchemy.orm import Session
    except ModuleNotFoundError as exc:
        raise DependencyFailed("sql_session needs SQLAlchemy", hint="pip install 'buildflow-platform[sql]'") from exc
    with Session(_engine(database), expire_on_commit=expire_on_commit, autoflush=autoflush) as session:
        yield session


_engines: "weakref.WeakKeyDictionary[Database, tuple[int, Engine]]" = weakref.WeakKeyDictionary()


def _engine(database: Database) -> "Engine":
    """One engine, with its pool of connections, for each database and process; it goes with the handle."""
    from sqlalchemy import create_engine, make_url

    process, engine = _engines.get(database, (0, None))
    if engine is None or process != os.getpid():  # else it is a parent's
        engine = create_engine(make_url(database.url).set(drivername="postgresql+psycopg"), pool_pre_ping=True)
        _engines[database] = os.getpid(), engine
        weakref.finalize(database, _dispose, engine, os.getpid())
    return engine


def _dispose(engine: "Engine", process: int) -> None:
    engine.dispose(close=process == os.getpid())  # a child leaves the connections of its parent alone
