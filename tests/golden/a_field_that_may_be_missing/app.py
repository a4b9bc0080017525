from typing import NotRequired, TypedDict


class Sale(TypedDict):
    id: int
    customer: NotRequired[str]


def work(job: dict) -> Sale: ...
