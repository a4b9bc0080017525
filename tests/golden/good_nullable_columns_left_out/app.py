from dataclasses import dataclass


@dataclass
class Returned:
    id: int
    note: str


def work(job) -> Returned: ...
