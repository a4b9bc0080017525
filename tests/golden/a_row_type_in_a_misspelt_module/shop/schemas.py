from dataclasses import dataclass


@dataclass
class Sale:
    id: int
