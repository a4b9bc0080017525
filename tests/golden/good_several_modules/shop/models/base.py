from pydantic import BaseModel


class Entity(BaseModel):
    id: int
