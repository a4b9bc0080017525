from typing import TypedDict


class Order(TypedDict):
    id: int


class Customer(TypedDict):
    name: str


def work(customers: list[Customer]): ...
