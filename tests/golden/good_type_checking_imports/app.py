from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildflow.types import Bucket, Message

    from models import Order


class Store: ...


def store(images: Bucket) -> Store: ...
def index(images: Bucket, store: Store, page: int = 1): ...
def work(message: Message[Order], images: Bucket) -> Order: ...
