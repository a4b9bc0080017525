import functools
import sys
from typing import overload

try:
    import uvloop_that_may_be_installed
except ImportError:
    uvloop_that_may_be_installed = None


class Orders:
    @staticmethod
    def static(id: int): ...

    @classmethod
    def of_class(cls, id: int): ...

    def of_object(self, id: int): ...

    def __call__(self, id: int): ...


class More(Orders): ...


orders = Orders()
partial = functools.partial(Orders.of_object, orders)


def logged(function):
    @functools.wraps(function)
    def inner(*args, **kwargs):
        return function(*args, **kwargs)

    return inner


@logged
def decorated(anything, at, all): ...


if sys.version_info >= (3, 8):

    def conditional(id: int): ...

else:

    def conditional(): ...


@overload
def overloaded(id: int) -> int: ...
@overload
def overloaded(id: str) -> str: ...
def overloaded(id): ...


def given(id, *, page: int = 1): ...
def whatever(*args, **kwargs): ...


async def coroutine(id: int) -> dict: ...
