"""What the handlers share."""

from dataclasses import dataclass


@dataclass
class Settings:
    region: str
    folder: str
    retries: int = 1


class Timing:
    def __init__(self, app: object, header: str) -> None:
        self.app, self.header = app, header


class Temporary(Exception): ...


class Refused(Exception): ...


class User: ...


def user(token: object, api_key: object) -> User: ...
