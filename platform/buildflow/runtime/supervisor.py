"""`platform run`: everything that a stack needs, in one command, until Ctrl-C.

Starts the gateway, a worker a pool and the watcher as processes of their own, starts again what dies, and
ends them in order. It keeps the embedded servers up, by holding on to them.

    python -m buildflow.runtime.supervisor PLAN [--host H --port P --workers N --parts gateway,worker,watcher]
"""

import argparse
import asyncio
import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildflow.errors import BuildflowError, PortInUse
from buildflow.providers import postgres_service, redis_service
from buildflow.providers.embedded_service import EmbeddedService
from buildflow.providers.env_file import env_file_in_environment

PARTS = ("gateway", "worker", "watcher")
STOP_SECONDS = {"gateway": 7.0, "worker": 8.0, "watcher": 3.0}
"""How long each part may take to end before it is killed; what it held comes again."""
_NOTHING = {"gateway": "no routes to serve", "worker": "no consumers to run", "watcher": "nothing to watch"}
"""What is said of a part that the plan has no work for."""
QUICK_DEATH = 5.0
LONGEST_PAUSE = 10.0
PR_SET_PDEATHSIG = 1


@dataclass
class Part:
    """One process that is kept alive."""

    name: str
    command: list[str]
    pass_fds: tuple[int, ...] = ()
    process: asyncio.subprocess.Process | None = None
    state: str = "starting"
    error: str = ""
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    pause: float = 0.2

    @property
    def kind(self) -> str:
        return self.name.partition(" ")[0]


class Supervisor:
    def __init__(self, plan_path: Path, arguments: argparse.Namespace) -> None:
        self.plan_text = plan_path.read_bytes()
        """Every part gets it on its stdin: another command may write another plan meanwhile."""
        self.plan: dict[str, Any] = json.loads(self.plan_text)
        self.arguments = arguments
        self.parts: list[Part] = []
        self.stopping = asyncio.Event()
        self.in_a_hurry = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        self.socket: socket.socket | None = None
        self.started = time.monotonic()
        self.code = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, self._stop)
        services = await asyncio.to_thread(self._services)
        try:
            self._declare()
            self.tasks = [asyncio.create_task(self._keep(part)) for part in self.parts]
            self.tasks += [asyncio.create_task(self._keep_service(service)) for service in services]
            for task in self.tasks:
                task.add_done_callback(self._ended)
            announce = asyncio.create_task(self._announce())
            await self.stopping.wait()
            announce.cancel()
            await self._end()
        finally:
            for service in services:
                await asyncio.to_thread(service.close, 5.0)
            if self.socket is not None:
                self.socket.close()
        _say("stopped")
        return self.code

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """A task that keeps a part alive ends with the run only; anything else ends the run."""
        if not task.cancelled() and (problem := task.exception()) is not None:
            _say(f"error: {type(problem).__name__}: {problem}")
            self.code = 1
            self.stopping.set()

    def _stop(self) -> None:
        """The first signal ends everything in order, a second one at once."""
        if self.stopping.is_set():
            self.in_a_hurry.set()
        else:
            self.stopping.set()
            _say("stopping")

    def _declare(self) -> None:
        python = [sys.executable, "-m"]
        wanted = self.arguments.parts.split(",")
        plan = "-"
        if "gateway" in wanted and (self.plan["routes"] or self.plan["mounts"]):
            self.socket = _listen(self.arguments.host, self.arguments.port)
            fd = self.socket.fileno()
            for number in range(self.arguments.workers):
                name = "gateway" if self.arguments.workers == 1 else f"gateway {number + 1}"
                command = [*python, "buildflow.runtime.gateway", plan, "--fd", str(fd)]
                self.parts.append(Part(name, command, (fd,)))
        if "worker" in wanted:
            for pool in self.plan["pools"]:
                if self.arguments.pool in (None, pool["name"]):
                    name = f"worker {pool['name']}"
                    command = [*python, "buildflow.runtime.worker", plan, "--pool", pool["name"]]
                    self.parts.append(Part(name, command))
        if "watcher" in wanted and self.plan["watched"]:
            self.parts.append(Part("watcher", [*python, "buildflow.runtime.watcher", plan]))

    async def _keep(self, part: Part) -> None:
        """Start a part, and start it again when it dies; slower each time it dies young."""
        while not self.stopping.is_set():
            born = time.monotonic()
            await self._live(part)
            if self.stopping.is_set():
                return
            part.ready.clear()
            code = part.process.returncode if part.process else None
            part.pause = 0.2 if time.monotonic() - born > QUICK_DEATH else min(part.pause * 2, LONGEST_PAUSE)
            _say(f"{part.name} ended ({_how(code)}); starting it again in {part.pause:g} s")
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), part.pause)

    async def _live(self, part: Part) -> None:
        read, write = os.pipe()
        part.process = await asyncio.create_subprocess_exec(
            *part.command,
            "--notify",
            str(write),
            pass_fds=(*part.pass_fds, write),
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            stdin=asyncio.subprocess.PIPE,
            stdout=sys.stderr.fileno(),
        )
        os.close(write)
        assert part.process.stdin is not None
        with contextlib.suppress(ConnectionError):  # it died at once: its end is seen below
            part.process.stdin.write(self.plan_text)
            await part.process.stdin.drain()
            part.process.stdin.close()
        listening = asyncio.create_task(self._listen_to(part, read))
        await part.process.wait()
        await listening

    async def _listen_to(self, part: Part, fd: int) -> None:
        """What a part says of itself, until it closes its end (a pool's children hold it too)."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        pipe = os.fdopen(fd, "rb")
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        assert part.process is not None
        ended = asyncio.create_task(part.process.wait())
        try:
            while not ended.done():
                line = asyncio.create_task(reader.readline())
                await asyncio.wait({line, ended}, return_when=asyncio.FIRST_COMPLETED)
                if not line.done() or not line.result():
                    line.cancel()
                    break
                said = json.loads(line.result())
                part.state, part.error = said["state"], said["error"]
                if part.state == "ready":
                    part.ready.set()
            await ended
        finally:
            transport.close()

    def _services(self) -> list[EmbeddedService]:
        """The embedded servers that the plan needs, up."""
        dir = Path.cwd() / self.plan["dir"]
        needs_postgres = any((r["type"], r["provider"]) == ("database", "local") for r in self.plan["resources"])
        services: list[EmbeddedService] = [] if self.plan["state_url"] else [redis_service.attach(dir)]
        return [*services, postgres_service.attach(dir)] if needs_postgres else services

    async def _keep_service(self, service: EmbeddedService) -> None:
        """Start an embedded server again when it has died, at the same place, so that clients reconnect."""
        while not self.stopping.is_set():
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), 0.3)
            try:
                if not self.stopping.is_set() and service.has_died():
                    await asyncio.to_thread(service.ensure)
            except BuildflowError as exc:
                _say(f"the embedded {service.title} does not start: {exc}")

    async def _announce(self) -> None:
        """Say where to click once every part is ready; name a part that cannot get ready."""
        waiting = {asyncio.create_task(part.ready.wait()): part for part in self.parts}
        told: dict[str, str] = {}
        while waiting:
            done, _ = await asyncio.wait(waiting, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                del waiting[task]
            for part in waiting.values():
                if part.state == "failed" and told.get(part.name) != part.error:
                    told[part.name] = part.error
                    _say(f"{part.name} is not ready: {part.error}")
        seconds = time.monotonic() - self.started
        parts = [part.name for part in self.parts] or [_NOTHING[part] for part in self.arguments.parts.split(",")]
        _say(f"ready in {seconds:.1f} s: {', '.join(parts)}")
        if self.socket is not None:
            host, port = self.socket.getsockname()[:2]
            shown = "127.0.0.1" if host == "0.0.0.0" else host
            url = f"http://{shown}:{port}"
            has_page = any(r["method"] == "GET" and r["path"] == "/" for r in self.plan["routes"])
            click = f"{_bold(url)}   API: {url}/docs" if has_page else _bold(f"{url}/docs")
            _say(f"open {click}   Ctrl-C ends it")

    async def _end(self) -> None:
        for kind in PARTS:
            await asyncio.gather(*(self._end_part(part) for part in self.parts if part.kind == kind))
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _end_part(self, part: Part) -> None:
        process = part.process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGKILL if self.in_a_hurry.is_set() else signal.SIGTERM)
        waits = [asyncio.create_task(process.wait()), asyncio.create_task(self.in_a_hurry.wait())]
        await asyncio.wait(waits, timeout=STOP_SECONDS[part.kind], return_when=asyncio.FIRST_COMPLETED)
        if process.returncode is None:
            _say(f"{part.name} does not end; killing it (what it held comes again)")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        waits[1].cancel()


def _die_with_parent() -> None:
    """Linux: the kernel kills a part when its supervisor dies."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _listen(host: str, port: int) -> socket.socket:
    """The socket that all gateways accept from. It outlives each of them: a restart refuses nobody."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as exc:
        listening.close()
        if exc.errno == errno.EADDRINUSE:
            words = f"port {port} of {host} is in use"
            raise PortInUse(words, hint="end what uses it, or choose another: --port 0 picks a free one") from exc
        raise BuildflowError(f"cannot listen on port {port} of {host}: {exc.strerror}") from exc
    listening.listen(2048)
    return listening


def _how(code: int | None) -> str:
    if code is None:
        return "unknown"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _say(text: str) -> None:
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    part = f"\x1b[35m{'platform':<10}\x1b[0m" if colour else f"{'platform':<10}"
    with contextlib.suppress(OSError):  # nobody listens any more; there is work to do all the same
        print(f"{time.strftime('%H:%M:%S')} {part} {text}", file=sys.stderr, flush=True)  # noqa: T201 - its voice


def _bold(text: str) -> str:
    return f"\x1b[1;4m{text}\x1b[0m" if sys.stderr.isatty() and "NO_COLOR" not in os.environ else text


def main() -> None:
    parser = argparse.ArgumentParser(prog="buildflow.runtime.supervisor")
    parser.add_argument("plan", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--pool", default=None)
    arguments = parser.parse_args()
    try:
        with env_file_in_environment(Path.cwd()):  # every part inherits it
            code = asyncio.run(Supervisor(arguments.plan, arguments).run())
    except BuildflowError as exc:
        _say(f"error: {exc}" + (f"\n{'':<20}help: {exc.hint}" if exc.hint else ""))
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
