"""What a client says of an address where something else than Redis answers."""

import socketserver
import threading
from collections.abc import Iterator

import pytest

from buildflow.errors import ServiceUnavailable
from buildflow.providers.redis_client import connect, spoken


class NoRedis(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(4096)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.fixture
def port() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), NoRedis) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_what_is_no_redis_is_said_with_a_cure(port: int) -> None:
    client = connect(f"redis://127.0.0.1:{port}/0")
    with pytest.raises(ServiceUnavailable, match=r"what answers is no Redis: .*HTTP/1.1 400") as raised, spoken():
        client.get("key")
    client.close()
    assert "`state_url`" in raised.value.hint
