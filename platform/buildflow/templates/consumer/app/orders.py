"""What the queue carries, and what the table holds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Order:
    """A message of the queue `orders`, sent as JSON."""

    item: str
    amount: int = 1


@dataclass(frozen=True)
class Sale:
    """A row of the table `sales`. `total` is in cents."""

    item: str
    amount: int
    total: int
