from . import orders
from .orders import Order

Receipt = orders.Receipt
