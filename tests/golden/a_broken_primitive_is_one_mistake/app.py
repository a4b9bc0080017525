from dataclasses import dataclass
from buildflow.types import Table

@dataclass
class Order:
    id: int

def index(orders: Table): ...
def save(message: dict) -> Order: ...
