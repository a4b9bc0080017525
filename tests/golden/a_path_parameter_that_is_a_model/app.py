from pydantic import BaseModel


class Order(BaseModel):
    id: int


def order(id: Order): ...
def tags(names: list[str]): ...
