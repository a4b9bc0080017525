import typing
from collections import namedtuple
from collections.abc import Iterable


class Sale(typing.NamedTuple):
    id: int
    total: float = 0.0

    def net(self) -> float:
        return self.total / 1.19


Pair = namedtuple("Pair", "id total")
Triple = typing.NamedTuple("Triple", [("id", int), ("total", float)])


def work(job: dict) -> Sale: ...
def many(job: dict) -> Iterable[Sale]: ...
def pair(job: dict) -> Pair: ...
def triple(job: dict) -> Triple: ...
