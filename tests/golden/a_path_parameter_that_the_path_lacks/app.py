from typing import Annotated

from buildflow.requests import Path


def order(id: int = Path()): ...
def line(order_id: Annotated[int, Path(ge=1)], line: Annotated[int, Path()]): ...
