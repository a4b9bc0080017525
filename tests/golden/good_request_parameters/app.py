from typing import Annotated

from buildflow.requests import (
    Body,
    Cookie,
    File,
    Form,
    Header,
    Path,
    Query,
    Request,
    UploadFile,
    WebSocket,
)
from fastapi import BackgroundTasks, Depends, Response, Security
from pydantic import BaseModel, Field


class Filter(BaseModel):
    words: list[str] = Field(default_factory=list)


def page(size: int = 10) -> int: ...


def search(
    q: Annotated[str, Query(min_length=3)],
    session: Annotated[str | None, Cookie()] = None,
    user_agent: str = Header(default=""),
    size: int = Depends(page),
    tags: list[str] = Query(default=[]),
): ...


def item(id: Annotated[int, Path(ge=1)], response: Response, tasks: BackgroundTasks): ...
def other(id: int = Path()): ...
def filtered(filter: Filter, note: str = Body(default="")): ...
async def upload(file: Annotated[UploadFile, File()], name: str = Form()): ...
async def several(files: list[UploadFile], request: Request): ...
async def chat(websocket: WebSocket, name: str = "anonymous"): ...
