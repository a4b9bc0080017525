from dataclasses import dataclass, field


@dataclass(frozen=True)
class Order:
    id: int = field(default=1)
    customer: str


def index() -> str: ...
