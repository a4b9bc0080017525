from collections.abc import Iterator
from dataclasses import dataclass

from buildflow.exceptions import HTTPException
from buildflow.requests import Request
from sqlalchemy_that_may_be_installed import create_engine
from sqlalchemy_that_may_be_installed.orm import Session, sessionmaker

from journal.models import Base


@dataclass
class User:
    id: str
    email: str | None = None


def engine(url: str):
    made = create_engine(url)
    Base.metadata.create_all(made)
    return made


def session(engine) -> Iterator[Session]:
    with sessionmaker(engine)() as made:
        yield made


def maybe_user(request: Request) -> User | None:
    return request.session.get("user")


def user(maybe_user: User | None) -> User:
    if maybe_user is None:
        raise HTTPException(403)
    return maybe_user
