"""A project's own tests, in process, on real local parts.

    from buildflow.testing import app

    with app("buildflow.yaml", replace={"model": Fake()}) as a:
        a.http.post("/image-upload", files={"image_file": ("cat.png", png)})
        assert a.rows("classifications", at_least=1)[0]["model"] == "fake"

Routes are served by the real gateway app, messages pass through the real embedded Redis, rows go to a real
DuckDB file; all of it in a temporary folder that is gone afterwards. Consumers run in a thread of the test's
process, with the same delivery code as in a worker, so breakpoints and patches work.
"""

import asyncio
import contextlib
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from buildflow.compiler import compile_file
from buildflow.compiler.not_yet import CODE as NOT_YET
from buildflow.diagnostics import Severity, did_you_mean
from buildflow.errors import BuildflowError, UnknownName
from buildflow.ir.runtime import RuntimePlan
from buildflow.primitives.messages import Encoder, encoder
from buildflow.primitives.registry import driver
from buildflow.providers.env_file import env_file_in_environment
from buildflow.provision.apply import apply as make_changes
from buildflow.provision.apply import bound_resources
from buildflow.provision.changes import diff
from buildflow.provision.state import State, load
from buildflow.runtime.connections import Connections
from buildflow.runtime.dead_letters import open_dead_letters
from buildflow.runtime.delivery import ConsumerRunner, died_words, groups_of, settle
from buildflow.runtime.dependencies import Container
from buildflow.runtime.gateway import Gateway, make_app
from buildflow.runtime.process import Notify
from buildflow.types import DeadLetter

if TYPE_CHECKING:
    from starlette.testclient import TestClient


T = TypeVar("T")


class ProjectInvalid(BuildflowError):
    """The project has mistakes."""


class App:
    """A running project. `http` is a client for its routes."""

    http: "TestClient"

    def __init__(self, plan: RuntimePlan, connections: Connections, replace: Mapping[str, Any]) -> None:
        self.plan = plan
        self.connections = connections
        self.container = Container(plan, connections, replace=replace)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._problems: list[BaseException] = []
        self._errors: dict[str, str] = {}
        self._encoders: dict[str, Encoder] = {}

    def send(self, source: str, message: Any, **headers: str) -> str:
        """Put a message (bytes, text, or anything that becomes JSON) into a source; returns its id. Raises
        `BadMessage` where the source declares another type."""
        target = self.connections.source(source)
        if source not in self._encoders:
            self._encoders[source] = encoder(self.plan.resource(source), self.plan)
        return target.send(self._encoders[source](message), headers)

    def rows(self, table: str, *, at_least: int = 0, timeout: float = 10.0) -> list[dict[str, Any]]:
        """A table's rows, once it has `at_least` so many. Raises AssertionError after `timeout` seconds."""
        return self._wait(lambda: self.connections.handle(table).rows(), at_least, timeout, f'rows in "{table}"')

    def dead_letters(self, consumer: str, *, at_least: int = 0, timeout: float = 10.0) -> list[DeadLetter]:
        """What a consumer gave up, once there are `at_least` so many."""
        store = open_dead_letters(self.plan.consumer(consumer), self.connections)
        return self._wait(store.all, at_least, timeout, f'dead letters of "{consumer}"')

    def handle(self, key: str) -> Any:
        """The handle that a handler would get."""
        return self.connections.handle(key)

    def drain(self, timeout: float = 10.0) -> None:
        """Wait until no consumer has anything left to do."""
        sources = [self.connections.source(c.source) for c in self.plan.consumers]
        deadline = time.monotonic() + timeout
        while any(sum(source.counts()) for _ in range(2) for source in sources):  # one may feed another meanwhile
            self._check()
            if time.monotonic() > deadline:
                raise AssertionError(f"consumers are still busy after {timeout:g} s{self._failures()}")
            time.sleep(0.02)

    def _wait(self, read: Callable[[], list[T]], at_least: int, timeout: float, what: str) -> list[T]:
        deadline = time.monotonic() + timeout
        while True:
            found = read()
            self._check()
            if len(found) >= at_least:
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(found)} {what} after {timeout:g} s, not {at_least}{self._failures()}")
            time.sleep(0.02)

    def _failures(self) -> str:
        return "".join(f'\n"{key}" last failed: {error}' for key, error in self._errors.items())

    def _check(self) -> None:
        if self._problems:
            raise self._problems[0]

    # the run time

    def _start(self) -> None:
        for consumer in self.plan.consumers:
            self._spawn(self._consume, consumer.key)
        for key in self.plan.watched:
            self._spawn(self._watch, key)

    def _spawn(self, target: Any, key: str) -> None:
        thread = threading.Thread(target=self._guarded, args=(target, key), name=f"{target.__name__}-{key}")
        thread.start()
        self._threads.append(thread)

    def _guarded(self, target: Any, key: str) -> None:
        try:
            target(key)
        except BaseException as exc:  # noqa: BLE001 - raised again in the test's own thread
            self._problems.append(exc)

    def _consume(self, key: str) -> None:
        """A worker in small: the same groups, the same runner, the same settling."""
        plan = self.plan.consumer(key)
        source = self.connections.source(plan.source)
        with asyncio.Runner() as loop:
            runner = ConsumerRunner(plan, self.plan, self.connections, self.container)
            while not self._stop.is_set():
                elements = source.lease(plan.batch.size)
                if not elements:
                    source.wait(0.1)
                for group, bury in groups_of(elements, plan):
                    reason = died_words(group[0], "") if bury else ""
                    report = loop.run(runner.run(group, bury=reason))
                    if report.error:
                        self._errors[key] = report.error
                    settle(source, group, report)

    def _watch(self, key: str) -> None:
        resource = self.plan.resource(key)
        session = self.connections.session(resource.provider)
        driver(resource.type, resource.provider).watch(resource, session, self._stop)

    def _end(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)


@contextlib.contextmanager
def app(
    file: str | Path = "buildflow.yaml",
    *,
    stack: str = "test",
    replace: Mapping[str, Any] | None = None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[App]:
    """Run a project for a test. A stack that the file does not declare is a local one in a temporary folder.

    `replace` gives dependencies by key, instead of building them. Handlers are imported from the folder of the file.
    Raises `ProjectInvalid`, with every mistake,
    when the project does not compile.
    """
    from starlette.testclient import TestClient

    folder = Path(tempfile.mkdtemp(prefix="buildflow-test-"))
    extra = {stack: {"provider": "local", "local": {"dir": str(folder)}}}
    compiled = compile_file(Path(file), stack=stack, variables=variables, extra_stacks=extra)
    try:
        wrong = [d for d in compiled.diagnostics if d.severity is Severity.ERROR or d.code == NOT_YET]
        if wrong:
            raise ProjectInvalid("\n".join(f"{d.span.file}:{d.span.line}:{d.span.column} {d.message}" for d in wrong))
        known = [d.key for d in compiled.plan.dependencies]
        unknown = sorted(set(replace or {}).difference(known))
        if unknown:
            hint = did_you_mean(unknown[0], known)
            raise UnknownName(f"replace names no dependency: {', '.join(unknown)}; {hint}".rstrip("; "), hint=hint)
        if str(compiled.root) not in sys.path:
            sys.path.insert(0, str(compiled.root))  # plain `pytest` leaves the project's folder out
        stack_folder = compiled.root / compiled.plan.dir
        first = Connections(compiled.plan, compiled.root)
        changes = diff(compiled.graph, load(stack_folder), first.session)
        make_changes(changes, stack_folder, first.session, lambda _: None)
        state: State = load(stack_folder)
        plan = compiled.plan.model_copy(update={"resources": bound_resources(compiled.plan.resources, state)})
        connections = Connections(plan, compiled.root)
        try:
            yield from _running(plan, connections, replace or {}, TestClient)
        finally:
            connections.close()
            first.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _running(
    plan: RuntimePlan, connections: Connections, replace: Mapping[str, Any], client: type["TestClient"]
) -> Iterator[App]:
    running = App(plan, connections, replace)
    with env_file_in_environment(connections.root), asyncio.Runner() as loop:
        loop.run(running.container.open([d.key for d in plan.dependencies]))
        try:
            gateway = Gateway(plan, connections, running.container, Notify(None))
            gateway.app = make_app(plan, connections, running.container)
            with client(gateway) as http:
                running.http = http
                running._start()
                try:
                    yield running
                finally:
                    running._end()
            running._check()
        finally:
            loop.run(running.container.close())
