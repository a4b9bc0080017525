from typing import NotRequired, TypedDict


class Sale(TypedDict):
    id: int
    customer: NotRequired[str]
    total: str


def work(job: dict) -> Sale: ...
