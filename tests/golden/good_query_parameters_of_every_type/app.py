import ipaddress
import pathlib
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Optional
from uuid import UUID

from buildflow.requests import Body, Cookie, Header, Query, Request
from fastapi import Response, WebSocket
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from fastapi import Depends
from pydantic import BaseModel, EmailStr, Field
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection


class State(Enum):
    NEW = "new"


class Page(BaseModel):
    size: int = Field(10, le=100)
    after: UUID | None = None


def plain(q, page: int = 1, price: Decimal | None = None, day: Optional[date] = None): ...
def kinds(state: State, kind: Literal["a", "b"], wait: timedelta, address: ipaddress.IPv4Address, file: pathlib.Path): ...
def many(ids: Annotated[list[int], Query()], tags: Annotated[set[str], Query()] = set(), words: list[str] = Query([])): ...
def model(page: Annotated[Page, Query()], state: Annotated[State, Header()] = State.NEW): ...
def anything(value: Any, other: object = None): ...
def of_the_request(request: Request, connection: HTTPConnection, response: Response): ...
def signed_in(user: Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())], session: str = Cookie("")): ...
def body(items: list[Page], note: Annotated[str, Body()] = "", limit: int = 5): ...
def raw(body: Annotated[bytes, Body()]): ...
def mapping(body: dict[str, list[int]]): ...
