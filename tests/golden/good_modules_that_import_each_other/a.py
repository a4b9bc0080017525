from __future__ import annotations

import b
from b import *


class Order(b.Entity):
    customer: b.Customer


def work(job: dict) -> Order: ...
