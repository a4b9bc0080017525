"""The session of `provider: local`: connected when asked, forked without harm, detached at the end."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from buildflow.errors import ServiceUnavailable
from buildflow.ir.graph import ResourceGraph
from buildflow.primitives.redis_stream import RedisStream
from buildflow.providers import redis_client
from buildflow.providers.local import LocalSession

GRAPH = ResourceGraph(project="shop", stack="local")


def session_in(dir: Path, state_url: str | None = None) -> LocalSession:
    return LocalSession(GRAPH, dir, dir / ".buildflow" / "local", "shop-local", state_url)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[LocalSession]:
    session = session_in(tmp_path)
    yield session
    session.close(wait=5)


def test_nothing_is_started_before_it_is_asked_for(tmp_path: Path, session: LocalSession) -> None:
    session.close()
    assert not (tmp_path / ".buildflow").exists()


def test_it_is_connected_once(session: LocalSession) -> None:
    assert session.redis() is session.redis()
    assert session.redis().ping()
    assert session.service() is session.service()


def test_after_closing_it_connects_again(session: LocalSession) -> None:
    session.redis().set("a", 1)
    session.close(wait=5)
    assert session.redis().get("a") == b"1"


def test_a_forked_child_gets_a_client_of_its_own(session: LocalSession) -> None:
    before = session.redis()
    before.set("a", 1)
    child = os.fork()
    if child == 0:
        own = session.redis() is not before and session.redis().get("a") == b"1"
        os._exit(0 if own else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert before.get("a") == b"1"


def test_state_url_names_another_redis(tmp_path: Path, session: LocalSession) -> None:
    service = session.service()
    assert service
    session.redis().set("a", 1)
    other = session_in(tmp_path / "other", service.url)
    assert other.redis().get("a") == b"1"
    assert other.service() is None
    assert not (tmp_path / "other").exists()
    other.close()


def test_an_unreachable_redis_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_client, "PATIENCE", 0.1)
    session = session_in(tmp_path, f"unix://{tmp_path}/none.sock")
    stream = RedisStream(session.redis, "orders")
    with pytest.raises(ServiceUnavailable, match=r"Redis does not answer: .*none\.sock"):
        stream.send(b"1", {})
    session.close()


def test_a_state_url_that_is_none_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(ServiceUnavailable, match="`state_url` is no URL of a Redis"):
        session_in(tmp_path, "http://user:secret@host").redis()


def test_sending_to_a_stack_that_does_not_run_is_quick_and_leaves_nothing_running(tmp_path: Path) -> None:
    import redis  # noqa: F401 - its import is not what is measured

    started = time.perf_counter()
    session = session_in(tmp_path)
    id = RedisStream(session.redis, "orders").send(b"1", {})
    session.close()
    took = time.perf_counter() - started
    print(f"start Redis, append, detach: {took * 1000:.0f} ms")
    assert took < 2  # 0.05 s on an idle machine
    session = session_in(tmp_path)
    stream = RedisStream(session.redis, "orders")
    assert [element.id for element in stream.lease(10)] == [id]
    session.close(wait=20)
    left = [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]
    assert not [p for p in left if p.status() != psutil.STATUS_ZOMBIE]
