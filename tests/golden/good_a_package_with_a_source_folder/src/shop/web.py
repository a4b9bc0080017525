"""Handlers of the site."""

from __future__ import annotations


def index() -> str:
    return "hello"
