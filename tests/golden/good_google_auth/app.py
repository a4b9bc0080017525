from dataclasses import dataclass
from typing import Optional

from buildflow.exceptions import HTTPException
from buildflow.requests import Request
from buildflow.responses import HTMLResponse, RedirectResponse


@dataclass(frozen=True)
class GoogleUser:
    google_account_id: str
    email: str
    email_verified: bool = False


async def google_user(request: Request, client_id: str) -> Optional[GoogleUser]: ...


def signed_in(google_user: Optional[GoogleUser]) -> GoogleUser:
    if google_user is None:
        raise HTTPException(401)
    return google_user


def index(google_user: Optional[GoogleUser]) -> HTMLResponse: ...
def login(request: Request) -> RedirectResponse: ...
async def callback(request: Request, code: str, state: str = "") -> RedirectResponse: ...
def me(signed_in: GoogleUser) -> GoogleUser: ...
