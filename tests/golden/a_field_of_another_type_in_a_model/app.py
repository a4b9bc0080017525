from datetime import date, datetime

from pydantic import BaseModel


class Sale(BaseModel):
    id: str
    day: datetime
    total: float


def work(job: dict) -> list[Sale]: ...
