import others as things
from others import *

try:
    import orjson

    def render() -> str: ...
except ImportError:

    def render() -> str: ...


class Orders:
    def add(self) -> str: ...


orders = Orders()
