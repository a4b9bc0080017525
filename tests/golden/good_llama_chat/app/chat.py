import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import Enum

from buildflow.responses import StreamingResponse
from buildflow.types import Bucket


class Role(Enum):
    USER = "user"
    ASSISTANT = "assistant"


@dataclass
class Turn:
    role: Role
    text: str


@dataclass
class ChatRequest:
    turns: list[Turn]
    temperature: float = 0.8


class Llama:
    def __init__(self, models: Bucket, file: str, lock: asyncio.Lock) -> None: ...

    async def stream(self, request: ChatRequest) -> AsyncIterator[str]:
        yield ""


async def chat(request: ChatRequest, llama: Llama) -> StreamingResponse:
    return StreamingResponse(llama.stream(request), media_type="text/event-stream")
