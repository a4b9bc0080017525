import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache

from buildflow.types import Bucket, Queue
from pydantic import BaseModel


def function(): ...
async def coroutine(): ...


def generator() -> Iterator[str]:
    yield ""


async def async_generator() -> AsyncIterator[str]:
    yield ""


@contextmanager
def manager() -> Iterator[str]:
    yield ""


@asynccontextmanager
async def async_manager() -> AsyncIterator[str]:
    yield ""


@contextlib.contextmanager
def other_manager(function): yield ""


class Class:
    def __init__(self, a=1): ...

    def __enter__(self): return self
    def __exit__(self, *error): ...


class AsyncClass:
    async def __aenter__(self): return self
    async def __aexit__(self, *error): ...


class Empty: ...


@dataclass
class Settings:
    table: str
    size: int = 10


class Model(BaseModel):
    name: str = "small"


@cache
def cached(settings: Settings): ...


@lru_cache(maxsize=1)
def cached_too(): ...


class Builder:
    @staticmethod
    def static(images: Bucket, jobs: "Queue"): ...

    @classmethod
    def build(cls, path): ...


made = lambda: 1
def anything(**arguments): ...
def index(function, coroutine, generator, async_generator, manager, async_manager, other_manager, cls, async_class): ...
def more(empty, model, cached, cached_too, static, build, made, anything): ...
