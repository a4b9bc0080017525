from dataclasses import dataclass


@dataclass
class Article:
    id: int
    tags: str


@dataclass
class Note:
    id: int
    tags: list[str]
    text: list[str]


def work(job: dict) -> Article: ...
def note(job: dict) -> Note: ...
