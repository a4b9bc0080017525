from typing import Annotated

from buildflow.exceptions import HTTPException
from buildflow.requests import Form, Request
from buildflow.responses import RedirectResponse
from pydantic import BaseModel
from sqlalchemy_that_may_be_installed.orm import Session

from journal.dependencies import User
from journal.models import Journal


class NewJournal(BaseModel):
    title: str


def index(maybe_user: User | None) -> RedirectResponse: ...
def login(request: Request, next: str = "/") -> RedirectResponse: ...
def journals(session: Session, user: User, page: int = 1) -> list[NewJournal]: ...
def create(journal: NewJournal, session: Session, user: User) -> NewJournal: ...
def rename(id: int, title: Annotated[str, Form()], session: Session) -> NewJournal: ...


def delete(id: int, session: Session, user: User) -> None:
    if session.get(Journal, id) is None:
        raise HTTPException(404)
