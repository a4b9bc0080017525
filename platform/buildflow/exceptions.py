"""Exceptions that handlers raise or catch."""

from fastapi import HTTPException, WebSocketException

from buildflow.errors import BadMessage, InvalidObjectName, InvalidRow, ObjectNotFound

__all__ = [
    "BadMessage",
    "HTTPException",
    "InvalidObjectName",
    "InvalidRow",
    "ObjectNotFound",
    "WebSocketException",
]
