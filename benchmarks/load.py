"""Load on one route: keep-alive connections that each send their next request when the answer has come.

    python -m benchmarks.load HOST PORT SECONDS CONNECTIONS < request

Prints how many requests a second were answered. It does as little as can be done for an answer, so that the server
is what is measured: the first answer is read as HTTP, and tells how many bytes the others have.
"""

import asyncio
import sys
import time
from typing import cast

import uvloop


class Connection(asyncio.Protocol):
    def __init__(self, request: bytes) -> None:
        self.request = request
        self.answered = 0
        self.size = 0
        self.seen = b""
        self.left = 0
        self.going = True
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if not self.size:
            data = self._first(data)
        elif self.left == self.size and not data.startswith(b"HTTP/1.1 200 "):
            self._fail(data)
        self.left -= len(data)
        if self.left > 0 or not self.size:
            return
        self.answered += 1
        self.left = self.size
        if self.going:
            self.transport.write(self.request)
        else:
            self.transport.close()

    def _first(self, data: bytes) -> bytes:
        self.seen += data
        head, end, _ = self.seen.partition(b"\r\n\r\n")
        if not end:
            return b""
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), None)
        if lines[0] != b"http/1.1 200 ok" or length is None:
            self._fail(self.seen)
            return b""
        self.size = self.left = len(head) + len(end) + length
        return self.seen

    def _fail(self, data: bytes) -> None:
        self.transport.abort()
        if not self.ended.done():
            self.ended.set_exception(RuntimeError(f"unexpected answer: {data[:300]!r}"))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if not self.ended.done():
            self.ended.set_result(None)


async def load(host: str, port: int, seconds: float, count: int, request: bytes) -> float:
    loop = asyncio.get_running_loop()
    opened = [await loop.create_connection(lambda: Connection(request), host, port) for _ in range(count)]
    connections = [connection for _, connection in opened]
    started, before = time.perf_counter(), sum(c.answered for c in connections)
    await asyncio.wait([c.ended for c in connections], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    rate = (sum(c.answered for c in connections) - before) / (time.perf_counter() - started)
    for connection in connections:
        connection.going = False
    await asyncio.wait_for(asyncio.gather(*(c.ended for c in connections)), 10)
    return rate


if __name__ == "__main__":
    host, port, seconds, count = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    print(uvloop.run(load(host, port, seconds, count, sys.stdin.buffer.read())))
