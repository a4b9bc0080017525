"""Where a test may stop a deployment: PULUMI_STAND_IN_HOLD="before|after <type or URN>@<host>:<port>".

There the stand-in connects to the test, says the URN, and goes on when the test closes the connection. "after" is
after the cloud did it and before the checkpoint says so. The real CLI has no such thing; to kill it half-way is chance.
"""

import os
import socket
from contextlib import suppress

VARIABLE = "PULUMI_STAND_IN_HOLD"


def hold(moment: str, type_: str, urn: str) -> None:
    setting = os.environ.get(VARIABLE)
    if not setting:
        return
    what, _, address = setting.rpartition("@")
    when, _, pattern = what.partition(" ")
    if when != moment or pattern not in (type_, urn):
        return
    host, _, port = address.rpartition(":")
    with suppress(ConnectionError), socket.create_connection((host, int(port))) as connection:
        connection.sendall(urn.encode())
        connection.recv(1)
