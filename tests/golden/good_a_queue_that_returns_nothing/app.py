from typing import NoReturn


def mail(message: dict) -> None: ...
async def log(message: bytes) -> None: ...
def refuse(message) -> NoReturn:
    raise ValueError
