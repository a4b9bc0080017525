from typing import NamedTuple

from buildflow.types import Message


class Order(NamedTuple):
    id: int


def work(message: Message[int]): ...
