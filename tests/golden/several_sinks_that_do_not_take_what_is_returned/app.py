from dataclasses import dataclass

from buildflow.types import Message


@dataclass
class Sale:
    item: str


@dataclass
class Order:
    number: int


def count(order: dict) -> int: ...
def pass_on(order: dict) -> Order: ...
def publish(order: dict) -> Message[Sale]: ...
def sell(order: dict) -> Sale: ...
def either(order: dict) -> Sale | Order: ...
def say(order: dict) -> str: ...
