from pydantic import BaseModel


class Sale(BaseModel):
    id: int
    custmer: str | None = None


def work(job: dict) -> Sale: ...
