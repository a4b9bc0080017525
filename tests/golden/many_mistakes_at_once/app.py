from dataclasses import dataclass


@dataclass
class Sale:
    id: int
    totl: float


def index(images, model): ...
def work(job, modle) -> Sale: ...
