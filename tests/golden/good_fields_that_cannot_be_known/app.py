from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import numpy_that_may_be_installed as np
from pydantic import BaseModel, EmailStr, HttpUrl
from somewhere_that_may_be_installed import Money, define


class Customer(BaseModel):
    id: UUID
    email: EmailStr
    home: HttpUrl
    balance: Money
    limit: Decimal


@dataclass
class Vector:
    id: int
    values: np.ndarray


@define
class Point:
    x: int
    y: int


class Legacy(Money):
    id: int


def customer(job: dict) -> Customer: ...
def vector(job: dict) -> Vector: ...
def point(job: dict) -> Point: ...
def legacy(job: dict) -> Legacy: ...
def elsewhere(job: dict) -> np.recarray: ...
