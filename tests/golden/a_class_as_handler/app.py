from dataclasses import dataclass


class Index:
    def __init__(self, title: str = "shop"):
        self.title = title

    def __call__(self) -> str:
        return self.title


class Work:
    def run(self, order: dict) -> None: ...


class Nothing:
    pass


@dataclass
class Order:
    id: int
