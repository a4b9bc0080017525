from dataclasses import dataclass


@dataclass
class Settings:
    table: str
    page_size: int = 20


def index(settings): ...
