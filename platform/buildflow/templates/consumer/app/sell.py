"""The consumer: an order in, a sale out."""

from app.orders import Order, Sale

PRICES = {"tea": 450, "coffee": 390, "cake": 320}
"""In cents."""


class UnknownItem(ValueError):
    """Nothing of that name is sold here. buildflow.yaml says that this is not tried again."""


def sell(order: Order) -> Sale:
    """What it returns is stored. What it raises is tried again, and ends in the table `failures` in the end."""
    if order.item not in PRICES:
        raise UnknownItem(f"there is no {order.item}; there is {', '.join(PRICES)}")
    return Sale(order.item, order.amount, PRICES[order.item] * order.amount)
