from dataclasses import dataclass


@dataclass
class Order:
    id: int
    customer: str


@dataclass
class Draft:
    id: int


def check(draft: dict) -> Draft: ...
def order(id: int) -> list[int]: ...
def nothing(draft: dict) -> None: ...
def work(order: Order): ...
