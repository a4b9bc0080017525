from dataclasses import dataclass

from buildflow.types import Message


@dataclass
class Sale:
    item: str


@dataclass
class Refund:
    why: str


def sell(order: dict) -> list[Sale]: ...
def either(order: dict) -> Sale | Refund | None: ...
def tell(order: dict) -> list[Sale | Message[Sale]]: ...
