from dataclasses import dataclass


@dataclass
class Order:
    id: int


def sell(id: int) -> dict:
    return {"id": id}
