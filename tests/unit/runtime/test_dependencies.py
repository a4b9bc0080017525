"""Dependencies of one process: every form of a factory, every scope, clean-up in reverse."""

import asyncio
import contextlib
import sys
import threading
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from buildflow.errors import DependencyFailed, UnknownName
from buildflow.ir.runtime import DependencyPlan, Injection, RuntimePlan
from buildflow.runtime.dependencies import Container, enter

Make = Callable[..., Container]


class FakeConnections:
    """Handles by key, and `with:` values as they are."""

    def handle(self, key: str) -> str:
        return f"handle of {key}"

    def resolve(self, value: Any) -> Any:
        if value == {"key": "${secret.MISSING}"}:
            raise UnknownName("the secret MISSING is not set", hint="export MISSING=...")
        return value


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """A container of `key=(factory, scope)`; a parameter that bears another key is injected with it."""
    module = types.ModuleType("factories_under_test")
    monkeypatch.setitem(sys.modules, "factories_under_test", module)

    def build(
        options: dict[str, Any] | None = None,
        arguments: dict[str, Any] | None = None,
        needs: dict[str, list[str]] | None = None,
        **factories: Any,
    ) -> Container:
        plans = []
        for key, (factory, scope) in factories.items():
            setattr(module, key, factory)
            inject = tuple(_injection(need, factories) for need in (needs or {}).get(key, []))
            plans.append(
                DependencyPlan(
                    key=key,
                    factory=f"factories_under_test:{key}",
                    scope=scope,
                    inject=inject,
                    arguments=(arguments or {}).get(key, {}),
                )
            )
        runtime = RuntimePlan(project="shop", stack="test", provider="local", dir="", dependencies=tuple(plans))
        connections: Any = FakeConnections()
        return Container(runtime, connections, **(options or {}))

    return build


def _injection(key: str, factories: dict[str, Any]) -> Injection:
    return Injection(parameter=key, kind="dependency" if key in factories else "primitive", key=key)


events: list[str] = []


@pytest.fixture(autouse=True)
def _no_events() -> None:
    events.clear()


def plain() -> str:
    return "value"


async def coroutine() -> str:
    await asyncio.sleep(0)
    return "value"


def generator() -> Iterator[str]:
    yield "value"
    events.append("closed")


async def async_generator() -> AsyncIterator[str]:
    yield "value"
    await asyncio.sleep(0)
    events.append("closed")


managed = contextlib.contextmanager(generator)
async_managed = contextlib.asynccontextmanager(async_generator)


class Plain(str):
    def __new__(cls) -> "Plain":
        return super().__new__(cls, "value")


class Managed:
    def __enter__(self) -> str:
        return "value"

    def __exit__(self, *failure: Any) -> None:
        events.append("closed")


class AsyncManaged:
    async def __aenter__(self) -> str:
        return "value"

    async def __aexit__(self, *failure: Any) -> None:
        events.append("closed")


FORMS = [
    (plain, []),
    (coroutine, []),
    (Plain, []),
    (generator, ["closed"]),
    (async_generator, ["closed"]),
    (managed, ["closed"]),
    (async_managed, ["closed"]),
    (Managed, ["closed"]),
    (AsyncManaged, ["closed"]),
]


@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize(("factory", "clean_up"), FORMS)
def test_every_form_of_a_factory(make: Make, factory: Any, clean_up: list[str], threads: bool) -> None:
    container = make(thing=(factory, "replica"), options={"threads": threads})

    async def life() -> None:
        await container.open(["thing"])
        assert container.values == {"thing": "value"}
        assert events == []
        await container.close()

    asyncio.run(life())
    assert events == clean_up
    assert container.values == {}


def test_an_object_that_a_function_returns_is_the_users_own_to_close() -> None:
    made = Managed()

    async def life() -> Any:
        async with contextlib.AsyncExitStack() as stack:
            return await enter(lambda: made, {}, stack)

    assert asyncio.run(life()) is made
    assert events == []


def test_synchronous_factories_leave_a_serving_loop_responsive(make: Make) -> None:
    beats: list[int] = []
    done = threading.Event()

    def slow() -> str:
        assert done.wait(10), "the loop stood still"
        return "value"

    async def life() -> None:
        container = make(thing=(slow, "replica"), options={"threads": True})
        opening = asyncio.create_task(container.open(["thing"]))
        while len(beats) < 3:
            await asyncio.sleep(0)
            beats.append(1)
        done.set()
        await opening

    asyncio.run(life())


def test_needs_come_first_and_clean_up_goes_backwards(make: Make) -> None:
    def engine(dsn: str) -> Iterator[str]:
        events.append(f"engine {dsn}")
        yield "engine"
        events.append("engine closed")

    def session(engine: str, files: str) -> Iterator[str]:
        events.append(f"session of {engine} and {files}")
        yield "session"
        events.append("session closed")

    container = make(
        engine=(engine, "global"),
        session=(session, "replica"),
        needs={"session": ["engine", "files"]},
        arguments={"engine": {"dsn": "db"}},
    )

    async def life() -> None:
        await container.open(["engine", "session"])
        await container.close()

    asyncio.run(life())
    assert events == ["engine db", "session of engine and handle of files", "session closed", "engine closed"]


def test_the_scopes(make: Make) -> None:
    counts = {"global_": 0, "replica_": 0, "request_": 0, "none_": 0}

    def counter(name: str) -> Any:
        def count() -> int:
            counts[name] += 1
            return counts[name]

        return count

    scopes = {name: (counter(name), name.rstrip("_")) for name in counts}
    container = make(**scopes)

    async def one_request() -> list[int]:
        async with contextlib.AsyncExitStack() as stack:
            local: dict[str, Any] = {}
            return [await container.value(_injection(k, scopes), stack, local) for k in (*counts, *counts)]

    async def life() -> None:
        await container.open(list(counts))
        assert counts == {"global_": 1, "replica_": 1, "request_": 0, "none_": 0}
        assert await one_request() == [1, 1, 1, 1, 1, 1, 1, 2]
        assert await one_request() == [1, 1, 2, 3, 1, 1, 2, 4]

    asyncio.run(life())


def test_what_a_pool_built_before_it_forked_is_not_built_again(make: Make) -> None:
    container = make(shared=(plain, "global"), own=(plain, "replica"), options={"inherited": {"shared": "inherited"}})
    asyncio.run(container.open(["shared", "own"]))
    assert container.values == {"shared": "inherited", "own": "value"}


def test_only_the_scopes_asked_for_are_opened(make: Make) -> None:
    container = make(shared=(plain, "global"), own=(plain, "replica"))
    asyncio.run(container.open(["shared", "own"], ("global",)))
    assert container.values == {"shared": "value"}


def test_a_failure_names_the_dependency_and_what_was_built_stays_for_the_next_try(make: Make) -> None:
    tries: list[int] = []

    def fickle() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("the shop is closed")
        return "open"

    def good() -> Iterator[str]:
        events.append("built")
        yield "good"
        events.append("closed")

    container = make(good=(good, "replica"), fickle=(fickle, "replica"))

    async def life() -> None:
        for _ in range(2):
            with pytest.raises(DependencyFailed, match=r'"fickle".*raised ConnectionError: the shop is closed'):
                await container.open(["good", "fickle"])
        await container.open(["good", "fickle"])
        assert container.values == {"good": "good", "fickle": "open"}
        assert events == ["built"]
        await container.close()

    asyncio.run(life())
    assert events == ["built", "closed"]


def test_what_a_failed_one_needed_for_itself_is_closed_before_the_next_try(make: Make) -> None:
    def client() -> Iterator[str]:
        events.append("client")
        try:
            yield "client"
        finally:
            events.append("client closed")

    def model(client: str) -> str:
        raise OSError("no weights")

    container = make(client=(client, "none"), model=(model, "replica"), needs={"model": ["client"]})

    async def life() -> None:
        for _ in range(2):
            with pytest.raises(DependencyFailed):
                await container.open(["model"])

    asyncio.run(life())
    assert events == ["client", "client closed"] * 2


def test_a_missing_secret_is_a_failure_with_its_cure(make: Make) -> None:
    container = make(thing=(plain, "replica"), arguments={"thing": {"key": "${secret.MISSING}"}})
    with pytest.raises(DependencyFailed, match='dependency "thing": the secret MISSING is not set') as caught:
        asyncio.run(container.open(["thing"]))
    assert caught.value.hint == "export MISSING=..."


@pytest.mark.parametrize("scope", ["request", "replica"])
def test_what_only_a_request_could_fill_is_told_in_words(make: Make, scope: str) -> None:
    def user(request: Any, realm: str, engine: str, page: int = 1, *more: str, **options: str) -> str:
        raise AssertionError("not to be built")

    container = make(
        user=(user, scope),
        engine=(plain, "replica"),
        needs={"user": ["engine"]},
        arguments={"user": {"realm": "shop"}},
    )

    async def life() -> None:
        await container.open(["engine", "user"])
        async with contextlib.AsyncExitStack() as stack:
            await container.value(_injection("user", {"user": user}), stack, {})

    with pytest.raises(DependencyFailed, match='its parameter "request" is not filled: a request could, and here is'):
        asyncio.run(life())


def test_a_replacement_stands_in_whatever_the_scope(make: Make) -> None:
    def never() -> str:
        raise AssertionError("not to be built")

    container = make(a=(never, "replica"), b=(never, "request"), options={"replace": {"a": "fake a", "b": "fake b"}})
    asyncio.run(container.open(["a", "b"]))
    injections = [Injection(parameter=k, kind="dependency", key=k) for k in "ab"]
    assert container.constants(injections) == {"a": "fake a", "b": "fake b"}
    assert container.short(injections) == []


def test_a_clean_up_that_fails_does_not_keep_the_others_from_theirs(make: Make) -> None:
    def bad() -> Iterator[str]:
        yield "bad"
        raise RuntimeError("clean-up")

    container = make(good=(generator, "replica"), bad=(bad, "replica"))

    async def life() -> None:
        await container.open(["good", "bad"])
        with pytest.raises(RuntimeError, match="clean-up"):
            await container.close()

    asyncio.run(life())
    assert events == ["closed"]
