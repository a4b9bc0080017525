"""Exceptions that handlers raise or catch."""

from fastapi import HTTPException, WebSocketException

from buildflow.errors import InvalidObjectName, InvalidRow, ObjectNotFound

__all__ = ["HTTPException", "InvalidObjectName", "InvalidRow", "ObjectNotFound", "WebSocketException"]
