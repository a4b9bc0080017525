"""Dependencies that the platform brings: what `type:` below `dependencies:` stands for.

Each is a factory like a user's own; its parameters are the fields of its model in `buildflow.spec.project`.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import HTTPException, Request

from buildflow.errors import DependencyFailed


def header(request: Request, name: str, required: bool = True, default: str | None = None) -> str | None:
    """One header's value. Raises HTTPException 422 where it is required and not there."""
    value = request.headers.get(name)
    if value is None and required:
        raise HTTPException(422, f"the header {name} is missing")
    return default if value is None else value


def bearer_token(request: Request, required: bool = True) -> str | None:
    """The token of `Authorization: Bearer ...`. Raises HTTPException 401 where it is required and not there.

    Source: https://datatracker.ietf.org/doc/html/rfc6750#section-2.1
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if required:
        raise HTTPException(401, "a bearer token is missing", headers={"WWW-Authenticate": "Bearer"})
    return None


async def http_client(base_url: str, timeout: float, headers: Mapping[str, str]) -> AsyncIterator[Any]:
    """An `httpx2.AsyncClient`, closed when its process ends."""
    try:
        import httpx2 as httpx
    except ModuleNotFoundError as exc:
        raise DependencyFailed("http_client needs httpx2", hint="pip install 'buildflow-platform[http]'") from exc
    async with httpx.AsyncClient(base_url=base_url, timeout=timeout, headers=dict(headers)) as client:
        yield client
