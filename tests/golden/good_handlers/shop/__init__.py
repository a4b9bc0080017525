from .models import Order as Order
