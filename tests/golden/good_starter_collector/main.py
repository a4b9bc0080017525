from dataclasses import dataclass

from buildflow.requests import Request


@dataclass
class Reading:
    sensor: str
    value: float


def collect(reading: Reading) -> Reading:
    return reading


async def dump(request: Request) -> dict:
    return {"path": request.url.path}


def serve() -> str:
    return "hello"
