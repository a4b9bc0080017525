"""What a client sends, and what the table holds."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, Field


class NewNote(BaseModel):
    """The body of `POST /notes`. Anything else is answered with 422, and the reason."""

    text: str = Field(min_length=1, max_length=1000)
    tags: list[str] = []


@dataclass(frozen=True)
class Note:
    """A row of the table `notes`."""

    id: str
    text: str
    tags: list[str]
    written_at: datetime
