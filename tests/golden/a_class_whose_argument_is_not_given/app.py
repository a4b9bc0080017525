from dataclasses import dataclass
from typing import NamedTuple

from pydantic import BaseModel


class Client:
    def __init__(self, url: str, *, token: str) -> None: ...


class More(Client): ...


@dataclass
class Settings:
    table: str
    size: int = 10


class Model(BaseModel):
    path: str


class Pair(NamedTuple):
    left: str


def index(more, settings, model, pair): ...
