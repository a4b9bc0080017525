from collections.abc import AsyncIterator
from pathlib import Path

from buildflow.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from buildflow.types import Bucket


async def numbers() -> AsyncIterator[bytes]:
    yield b"1"


def stream() -> StreamingResponse:
    return StreamingResponse(numbers())


def file(path: str) -> FileResponse:
    return FileResponse(Path(path))


def page() -> HTMLResponse: ...
def away() -> RedirectResponse: ...
def text() -> PlainTextResponse: ...
def data() -> JSONResponse: ...
def image(name: str, images: Bucket) -> Response: ...
