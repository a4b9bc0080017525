from dataclasses import dataclass

from buildflow.types import DeadLetter, Queue, Table


@dataclass
class Payment:
    id: str
    amount: float


class Refused(Exception): ...


class BankIsDown(Exception): ...


def send(payment: Payment, payments: Queue) -> dict: ...


def pay(payment: Payment) -> None:
    raise Refused


def failed(failures: Table, limit: int = 100) -> list[DeadLetter]: ...
