from dataclasses import dataclass
from enum import Enum


@dataclass
class Late(Exception):
    order: int


class Colour(Enum):
    RED = "red"


def work(job): ...
