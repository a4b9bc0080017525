import dataclasses


@dataclasses.dataclass
class Order:
    id: int
    lines: list[str] = []


def index() -> str: ...
