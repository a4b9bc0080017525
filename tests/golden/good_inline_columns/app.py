from typing import TypedDict


class Reading(TypedDict):
    sensor: str
    count: int
    value: float
    ok: bool
    raw: bytes
    at: "datetime.datetime"
    day: "datetime.date"
    hour: "datetime.time"
    extra: dict
    tags: list[str]


import datetime


def work(job: dict) -> Reading: ...
