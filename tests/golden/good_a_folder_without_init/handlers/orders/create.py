from handlers.orders.models import Order


def create(order: Order) -> Order: ...
