"""One leads at a time: a lock in the stack's Redis that lapses when its holder dies."""

import os
import socket
import time
import uuid

from buildflow.runtime.connections import Connections

LAPSE = 3.0
"""Seconds without a sign after which another may lead."""

_TAKE = """
if redis.call('set', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0
"""
_KEEP = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('pexpire', KEYS[1], ARGV[2]) end return 0"
_GIVE_UP = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


class Leadership:
    """The lock of one duty, such as the watcher's. `key` and `token` are what a fenced script compares."""

    def __init__(self, connections: Connections, duty: str) -> None:
        self.connections = connections
        self.key = f"{connections.namespace}:leader:{duty}"
        self.token = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"
        self._until = 0.0

    def take(self) -> bool:
        """Lead, if nobody else does."""
        return self._ask(_TAKE)

    def keep(self) -> bool:
        """Go on leading; False when another may have taken over."""
        return self._ask(_KEEP)

    @property
    def held(self) -> bool:
        """Whether nobody else can lead now, as far as this process' own clock tells."""
        return time.monotonic() < self._until

    def give_up(self) -> None:
        self._until = 0.0
        self.connections.state().eval(_GIVE_UP, 1, self.key, self.token)

    def _ask(self, script: str) -> bool:
        asked = time.monotonic()
        granted = bool(self.connections.state().eval(script, 1, self.key, self.token, int(LAPSE * 1000)))
        self._until = asked + LAPSE if granted else 0.0
        return granted
