"""What a route's handler may take from a request, under the original's names."""

from fastapi import Body, Cookie, File, Form, Header, Path, Query, Request, UploadFile, WebSocket
from fastapi.requests import HTTPConnection

__all__ = [
    "Body",
    "Cookie",
    "File",
    "Form",
    "HTTPConnection",
    "Header",
    "Path",
    "Query",
    "Request",
    "UploadFile",
    "WebSocket",
]
