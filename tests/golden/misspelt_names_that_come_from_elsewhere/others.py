from deep import *

__all__ = ["deeper", "process"]


def process() -> str: ...
def hidden() -> str: ...
