from collections.abc import Iterator
from pathlib import Path

from buildflow.responses import StreamingResponse
from buildflow.types import Bucket


class Folder:
    """Downloaded anew at every injection."""

    def __init__(self, models: Bucket, path: str = "model/") -> None: ...


class Model:
    def __init__(self, folder: Folder, *, device: str = "cpu") -> None: ...


def words(model: Model, prompt: str) -> Iterator[str]:
    yield prompt


def generate(prompt: str, model: Model, limit: int = 50) -> StreamingResponse:
    return StreamingResponse(words(model, prompt))
