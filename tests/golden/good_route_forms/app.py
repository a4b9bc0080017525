from dataclasses import dataclass


@dataclass
class Order:
    id: int


def index(): ...
def create(order: Order) -> Order: ...
def slow(): ...
