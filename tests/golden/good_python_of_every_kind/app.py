# -*- coding: latin-1 -*-
from __future__ import annotations

import contextlib
import sys
from buildflow.types import Bucket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nowhere_that_is_installed import Order

with contextlib.suppress(ImportError):
    from nowhere_that_is_installed import load

try:
    from nowhere_that_is_installed import decorate
except ImportError:

    def decorate(function):
        return function


match sys.platform:
    case "win32":
        SLASH = "\\"
    case _:
        SLASH = "/"


def index(images: Bucket, *, page: int = 1, größer: bool = False) -> list[int]:
    if (found := page) > 1:
        return [*[], found]
    return []


@decorate
def create(order: Order, *more, **rest) -> Order: ...


for name in ("one", "two"):
    globals()[name] = index
