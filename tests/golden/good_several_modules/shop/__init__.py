from .models import Order as Order, Receipt
from shop.handlers import *

__all__ = ["Order", "Receipt", "work"]
