"""`idempotency_key`: elements whose key was handled before are done without being handled again."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from pydantic_core import to_jsonable_python

from buildflow.primitives.base import KEEP_DAYS
from buildflow.providers.redis_client import spoken
from buildflow.runtime.connections import Connections
from buildflow.types import Message

REMEMBERED = timedelta(days=KEEP_DAYS)
"""As long as the sinks that dedupe keep the ids of elements."""


class Handled:
    """The keys that one consumer has handled, in the stack's Redis.

    A key is noted after its rows were committed. A process that dies in between handles that element twice; a
    transactional sink still writes once, as the key is the id of the entry that it commits.
    """

    def __init__(self, consumer: str, field: str, connections: Connections) -> None:
        self.field = field
        self.connections = connections
        self.prefix = f"{connections.namespace}:handled:{consumer}:"

    def key(self, value: Any) -> str | None:
        """An element's key as text; None when it is empty. Raises `ValueError` where there is no such field."""
        data = value.data if isinstance(value, Message) else value
        try:
            found = data[self.field] if isinstance(data, Mapping) else getattr(data, self.field)
        except (KeyError, AttributeError):
            raise ValueError(f'it has no field "{self.field}", which is its consumer\'s `idempotency_key`') from None
        if found is None:
            return None
        text = json.dumps(to_jsonable_python(found), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def known(self, keys: Iterable[str]) -> set[str]:
        """Those of `keys` that were handled before."""
        asked = list(dict.fromkeys(keys))
        if not asked:
            return set()
        with spoken():
            found = self.connections.state().mget([self.prefix + key for key in asked])
        return {key for key, value in zip(asked, found, strict=True) if value is not None}

    def note(self, keys: Iterable[str]) -> None:
        with spoken(), self.connections.state().pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.set(self.prefix + key, 1, ex=REMEMBERED)
            pipe.execute()
