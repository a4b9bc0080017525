import dataclasses as dc


@dc.dataclass
class Customer:
    name: str
