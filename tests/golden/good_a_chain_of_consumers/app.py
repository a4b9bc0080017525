from collections.abc import Iterator
from dataclasses import dataclass


@dataclass
class Page:
    url: str
    html: str


@dataclass
class Link:
    page: str
    target: str


def fetch(url: str) -> Page: ...


def links(page: Page) -> Iterator[Link]:
    yield Link(page.url, "")


def store(link: Link) -> Link | None: ...
