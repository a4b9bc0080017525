from dataclasses import dataclass


@dataclass
class Address:
    street: str
    zip: int


@dataclass
class Postal:
    street: str
    zip: str


@dataclass
class Customer:
    id: int
    address: Address


@dataclass
class Person:
    id: int
    address: Postal


def work(job: dict) -> Person: ...
