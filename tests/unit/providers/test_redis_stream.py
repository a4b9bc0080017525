"""The Redis stream as a source: leases, retries and recovery, whoever is killed whenever."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import psutil
import pytest

from buildflow.ir.graph import ResourceGraph
from buildflow.primitives.base import Element
from buildflow.primitives.redis_stream import RedisStream
from buildflow.providers.local import LocalSession

_keys = count()


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSession]:
    root = tmp_path_factory.mktemp("stack")
    session = LocalSession(ResourceGraph(project="p", stack="s"), root, root / "local", "p-s")
    yield session
    session.close(wait=5)


@pytest.fixture
def worker(session: LocalSession) -> Callable[..., RedisStream]:
    """Makes workers of one stream, each with its own name in the group."""
    key = f"stream-{next(_keys)}"

    def made(**options: object) -> RedisStream:
        stream = RedisStream(session.redis, key, **options)  # type: ignore[arg-type]
        stream.ensure()
        return stream

    return made


@pytest.fixture
def stream(worker: Callable[..., RedisStream]) -> RedisStream:
    return worker()


def forked(work: Callable[[], None]) -> int:
    """A child that does `work` and then waits to be killed."""
    reading, writing = os.pipe()
    parent, child = os.getpid(), os.fork()
    if child == 0:
        work()
        os.write(writing, b"!")
        while os.getppid() == parent:  # else the tests were killed
            time.sleep(0.5)
        os._exit(0)
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    return child


def kill(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def leased(stream: RedisStream, limit: int = 10, seconds: float = 60.0) -> list[Element]:
    """What the stream gives first, waiting for it as a worker does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := stream.lease(limit):
            return list(found)
        stream.wait(0.5)
    return []


# -- the envelope ----------------------------------------------------------------------------------------------


def test_an_element_arrives_as_it_was_sent(stream: RedisStream) -> None:
    body = bytes(range(256)) * 3
    id = stream.send(body, {"kind": "order", "ünï": "ço\ndé"})
    [element] = stream.lease(10)
    assert (element.id, element.body, element.attempt, element.alone) == (id, body, 1, False)
    assert element.headers == {"kind": "order", "ünï": "ço\ndé"}
    assert element.sent_at
    assert element.sent_at.tzinfo is UTC
    assert abs(datetime.now(UTC) - element.sent_at) < timedelta(seconds=30)
    assert stream.oldest() == element.sent_at


def test_an_id_may_be_given(stream: RedisStream) -> None:
    assert stream.send(b"", {}, id="my-id") == "my-id"
    assert stream.send_many([(b"1", {}, "first"), (b"2", {}, None)])[0] == "first"
    assert [element.id for element in stream.lease(2)] == ["my-id", "first"]


def test_an_entry_of_another_program_is_read_too(session: LocalSession, stream: RedisStream) -> None:
    session.redis().xadd(stream.key, {"price": "3"})
    session.redis().xadd(stream.key, {"body": "plain", "headers": "no json"})
    foreign, plain = stream.lease(10)
    assert foreign.body == b'{"price":"3"}'
    assert foreign.id == foreign.receipt
    assert (plain.body, plain.headers, plain.attempt) == (b"plain", {}, 1)


@pytest.mark.parametrize(
    "fields", [{"price": "3", "item": "tea"}, {"body": "plain"}, {"attempts": "x", "sent_at": "y"}]
)
def test_an_entry_of_another_program_stays_the_same_when_it_comes_again(
    session: LocalSession, stream: RedisStream, fields: dict[str, str]
) -> None:
    session.redis().xadd(stream.key, fields)
    [first] = stream.lease(1)
    stream.release(first)
    [second] = stream.lease(1)
    stream.release(second, delay=0.01, alone=True)
    [third] = leased(stream)
    for again, attempt in ((second, 2), (third, 3)):
        assert (again.id, again.body, again.headers) == (first.id, first.body, {})
        assert (again.sent_at, again.attempt) == (first.sent_at, attempt)


def test_many_are_sent_in_order(stream: RedisStream) -> None:
    ids = stream.send_many((str(n).encode(), {}, None) for n in range(2500))
    assert len(set(ids)) == 2500
    assert [e.id for _ in range(3) for e in stream.lease(1000)] == ids
    assert stream.send_many([], together=True) == []


def test_it_counts_what_waits_and_what_is_leased(stream: RedisStream) -> None:
    stream.send_many([(b"", {}, None)] * 5)
    assert stream.counts() == (5, 0)
    first, second = stream.lease(2)
    assert stream.counts() == (3, 2)
    stream.release(first, delay=60)
    assert stream.counts() == (4, 1)
    stream.acknowledge([second])
    assert stream.counts() == (4, 0)


def test_a_stream_that_does_not_exist_holds_nothing(session: LocalSession) -> None:
    none = RedisStream(session.redis, "none")
    assert not none.exists()
    assert (none.counts().backlog, none.counts().in_flight, none.oldest()) == (0, 0, None)


# -- leases ----------------------------------------------------------------------------------------------------


def test_one_element_goes_to_one_worker(worker: Callable[..., RedisStream]) -> None:
    worker().send_many([(b"", {}, str(n)) for n in range(200)])
    taken: Counter[str] = Counter()

    def take() -> None:
        mine = worker()
        while group := mine.lease(7):
            taken.update(element.id for element in group)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == Counter(str(n) for n in range(200))


def test_two_of_five_are_given_back(stream: RedisStream) -> None:
    stream.send_many([(str(n).encode(), {}, None) for n in range(5)])
    group = list(stream.lease(5))
    stream.acknowledge([group[0], group[2], group[4]])
    stream.release(group[1], alone=True)
    stream.release(group[3])
    again = list(stream.lease(5))
    assert [(e.id, e.body, e.attempt, e.alone) for e in again] == [
        (group[1].id, b"1", 2, True),
        (group[3].id, b"3", 2, False),
    ]
    assert [e.sent_at for e in again] == [group[1].sent_at, group[3].sent_at]
    stream.acknowledge(again)
    assert sum(stream.counts()) == 0


def test_acknowledging_goes_in_any_order_and_twice(stream: RedisStream) -> None:
    stream.send_many([(b"", {}, None)] * 4)
    group = list(stream.lease(4))
    for element in reversed(group):
        stream.acknowledge([element])
    stream.acknowledge(group)
    stream.acknowledge([])
    assert sum(stream.counts()) == 0


def test_attempts_are_counted_over_every_kind_of_return(worker: Callable[..., RedisStream]) -> None:
    stream = worker(lease_seconds=0.2)
    stream.send(b"", {})
    [element] = stream.lease(1)
    stream.release(element)
    [element] = stream.lease(1)
    assert element.attempt == 2
    stream.release(element, delay=0.01)
    [element] = leased(stream)
    assert element.attempt == 3
    [element] = leased(stream)  # lapsed
    assert (element.attempt, element.alone) == (4, True)
    stream.release(element)
    [element] = stream.lease(1)
    assert (element.attempt, element.alone) == (5, False)


def test_a_delayed_element_does_not_come_early(stream: RedisStream) -> None:
    stream.send(b"later", {"a": "b"})
    [element] = stream.lease(1)
    released = time.monotonic()
    stream.release(element, delay=1.5, alone=True)
    assert stream.lease(1) == []
    [again] = leased(stream)
    assert time.monotonic() - released >= 1.499
    assert (again.id, again.body, again.headers, again.attempt, again.alone) == (
        element.id,
        b"later",
        {"a": "b"},
        2,
        True,
    )


def test_two_equal_elements_stay_two_while_they_are_delayed(stream: RedisStream) -> None:
    stream.send_many([(b"same", {}, "same")] * 2)
    for element in stream.lease(2):
        stream.release(element, delay=0.01)
    assert stream.counts().backlog == 2


def test_a_release_of_what_another_worker_holds_does_nothing(worker: Callable[..., RedisStream]) -> None:
    slow, quick = worker(lease_seconds=0.1), worker(lease_seconds=0.1)
    slow.send(b"", {})
    [element] = slow.lease(1)
    [taken] = leased(quick)
    slow.release(element)
    assert slow.counts() == (0, 1)
    quick.acknowledge([taken])
    quick.release(taken)
    assert sum(slow.counts()) == 0


def test_a_late_acknowledge_counts_because_the_work_is_committed(worker: Callable[..., RedisStream]) -> None:
    slow, quick = worker(lease_seconds=0.1), worker(lease_seconds=0.1)
    slow.send(b"", {})
    element = slow.lease(1)
    taken = leased(quick)
    slow.acknowledge(element)
    assert quick.counts().in_flight == 0
    quick.renew(taken)
    quick.release(taken[0])
    assert sum(quick.counts()) == 0


# -- recovery --------------------------------------------------------------------------------------------------


def test_what_a_dead_process_held_comes_at_once_each_alone(worker: Callable[..., RedisStream]) -> None:
    mine = worker(lease_seconds=3600)
    mine.send_many([(str(n).encode(), {}, None) for n in range(5)])
    kill(forked(lambda: worker(lease_seconds=3600).lease(3) and None))
    found: list[Element] = []
    while len(found) < 5:
        found += leased(mine, 2)
    assert sorted((e.body, e.attempt, e.alone) for e in found) == [
        (b"0", 2, True),
        (b"1", 2, True),
        (b"2", 2, True),
        (b"3", 1, False),
        (b"4", 1, False),
    ]


def test_dead_workers_are_forgotten_once_they_hold_nothing(
    session: LocalSession, worker: Callable[..., RedisStream]
) -> None:
    mine = worker()
    mine.send_many([(b"", {}, None)] * 2)
    kill(forked(lambda: worker().lease(1) and None))
    kill(forked(lambda: worker().lease(1) and None))
    found: list[Element] = []
    while len(found) < 2:
        found += leased(mine, 1)
    mine._next_recovery = 0.0
    mine.lease(1)
    consumers = session.redis().xinfo_consumers(mine.key, mine.group)
    assert [c["name"].decode() for c in consumers] == [mine.consumer]


def test_nothing_is_taken_from_a_living_process(worker: Callable[..., RedisStream]) -> None:
    mine = worker()
    mine.send(b"", {})
    child = forked(lambda: worker().lease(1) and None)
    try:
        mine._next_recovery = 0.0
        assert mine.lease(1) == []
    finally:
        kill(child)
    assert len(leased(mine)) == 1


def test_what_a_hanging_worker_held_comes_after_its_lease(worker: Callable[..., RedisStream]) -> None:
    hanging, mine = worker(lease_seconds=2.0), worker(lease_seconds=2.0)
    hanging.send(b"", {})
    started = time.monotonic()
    [element] = hanging.lease(1)
    assert mine.lease(1) == []
    [again] = leased(mine)
    assert time.monotonic() - started >= 1.999
    assert (again.id, again.receipt, again.attempt, again.alone) == (element.id, element.receipt, 2, True)


def test_a_renewed_lease_is_kept_and_is_no_attempt(worker: Callable[..., RedisStream]) -> None:
    mine, other = worker(lease_seconds=2.0), worker(lease_seconds=2.0)
    mine.send(b"", {})
    group = list(mine.lease(1))
    for _ in range(8):
        other.wait(0.1)
        other._next_recovery = 0.0
        assert other.lease(1) == []
        mine.renew(group)
        time.sleep(0.3)  # time is what a lease is about
    [again] = leased(other)
    assert again.attempt == 2


def test_renewing_takes_nothing_from_another_worker(session: LocalSession, worker: Callable[..., RedisStream]) -> None:
    slow, quick = worker(lease_seconds=0.1), worker(lease_seconds=0.1)
    slow.send(b"", {})
    lost = list(slow.lease(1))
    [taken] = leased(quick)
    slow.renew(lost)
    [pending] = session.redis().xpending_range(quick.key, quick.group, "-", "+", 1)
    assert pending["consumer"].decode() == quick.consumer
    assert pending["times_delivered"] == taken.attempt == 2


def test_an_entry_that_was_deleted_by_another_hand_is_let_go(
    session: LocalSession, worker: Callable[..., RedisStream]
) -> None:
    mine = worker(lease_seconds=0.1)
    mine.send_many([(b"", {}, None)] * 2)
    first, second = mine.lease(2)
    session.redis().xdel(mine.key, first.receipt)
    mine.release(first)
    assert [e.id for e in leased(mine)] == [second.id]
    assert mine.counts() == (0, 1)
    session.redis().xdel(mine.key, second.receipt)
    end = time.monotonic() + 60
    while mine.counts().in_flight and time.monotonic() < end:
        mine.lease(1)
    assert mine.counts().in_flight == 0


def test_a_flushed_redis_gets_its_group_again(session: LocalSession, stream: RedisStream) -> None:
    session.redis().delete(stream.key)
    assert stream.lease(1) == []
    session.redis().delete(stream.key)
    stream.wait(0.1)
    stream.send(b"", {})
    session.redis().xgroup_destroy(stream.key, stream.group)
    [element] = stream.lease(1)
    session.redis().delete(stream.key)
    stream.renew([element])
    stream.release(element)
    stream.acknowledge([element])
    assert sum(stream.counts()) == 0


# -- waiting ---------------------------------------------------------------------------------------------------


def test_waiting_ends_when_something_is_sent(worker: Callable[..., RedisStream]) -> None:
    stream, sender = worker(), worker()
    stream.lease(1)
    sent: list[float] = []

    def send() -> None:
        sent.append(time.monotonic())
        sender.send(b"", {})

    timer = threading.Timer(0.1, send)
    timer.start()
    stream.wait(0.9)
    woken = time.monotonic()
    timer.join()
    assert sent
    assert woken - sent[0] < 0.5
    assert len(stream.lease(1)) == 1


def test_waiting_ends_in_time(stream: RedisStream) -> None:
    stream.lease(1)
    started = time.monotonic()
    stream.wait(0.2)
    assert 0.19 < time.monotonic() - started < 0.8


def test_waiting_ends_soon_after_close(stream: RedisStream) -> None:
    stream.lease(1)
    stream._next_recovery = time.monotonic() + 3600
    waiting = threading.Thread(target=stream.wait, args=(60,))
    waiting.start()
    stream.close()
    waiting.join(5)
    assert not waiting.is_alive()


# -- crashes ---------------------------------------------------------------------------------------------------


class Log:
    """What workers say of themselves, one line each, kept when they are killed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def say(self, word: str, elements: list[Element]) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        os.write(fd, "".join(f"{word} {element.id}\n" for element in elements).encode())
        os.close(fd)

    def lines(self) -> list[tuple[str, str]]:
        return [(word, id) for word, _, id in (line.partition(" ") for line in self._path.read_text().splitlines())]


def work(stream: RedisStream, log: Log, seed: int) -> None:
    """Lease, release and acknowledge at random, for ever. What is to be acknowledged is said before and after."""
    choice, parent = random.Random(seed), os.getppid()
    while os.getppid() == parent:
        group = leased(stream, choice.randint(1, 8))
        log.say("leased", group)
        done = []
        for element in group:
            if choice.random() < 0.6:
                stream.release(element, delay=choice.choice([0, 0, 0.005]), alone=choice.random() < 0.5)
            else:
                done.append(element)
        log.say("trying", done)
        stream.acknowledge(done)
        log.say("done", done)


def check(log: Log, sent: list[str]) -> None:
    done: set[str] = set()
    tried: set[str] = set()
    for word, id in log.lines():
        if word == "leased":
            assert id not in done, "it came again after it was acknowledged"
        elif word == "trying":
            tried.add(id)
        else:
            done.add(id)
    assert set(sent) <= tried, "it was never worked on"


def drain(stream: RedisStream, log: Log) -> None:
    end = time.monotonic() + 180
    while sum(stream.counts()):
        assert time.monotonic() < end
        group = leased(stream, 50, seconds=1)
        log.say("leased", group)
        log.say("trying", group)
        stream.acknowledge(group)
        log.say("done", group)


@pytest.mark.slow
def test_workers_killed_at_any_moment_lose_nothing(tmp_path: Path, worker: Callable[..., RedisStream]) -> None:
    stream, log, choice = worker(), Log(tmp_path / "log"), random.Random(7)
    sent = stream.send_many([(b"x", {}, None) for _ in range(1500)])
    for seed in range(80):
        children = [forked_worker(worker, log, seed * 2 + n) for n in range(2)]
        time.sleep(choice.uniform(0.005, 0.06))  # the moment is what is tried
        for child in children:
            kill(child)
    print(f"left after 160 deaths: {sum(stream.counts()):,} of {len(sent):,}")
    drain(stream, log)
    check(log, sent)


@pytest.mark.slow
def test_a_redis_killed_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    session = LocalSession(ResourceGraph(project="p", stack="s"), tmp_path, tmp_path / "local", "p-s")
    stream = RedisStream(session.redis, "orders", lease_seconds=3)
    stream.ensure()
    log, choice = Log(tmp_path / "log"), random.Random(7)
    sent = stream.send_many([(b"x", {}, None) for _ in range(3000)])  # before: a send is repeated when in doubt
    child = forked_worker(lambda: RedisStream(session.redis, "orders", lease_seconds=3), log, 1)
    for _ in range(12):
        server = session.redis().info("server")["process_id"]
        time.sleep(choice.uniform(0.01, 0.1))  # the moment is what is tried
        psutil.Process(server).kill()
    kill(child)
    print(f"left after twelve deaths of Redis: {sum(stream.counts()):,} of {len(sent):,}")
    drain(stream, log)
    check(log, sent)
    session.close(wait=5)


def forked_worker(make: Callable[..., RedisStream], log: Log, seed: int) -> int:
    child = os.fork()
    if child == 0:
        try:
            work(make(), log, seed)
        finally:
            os._exit(1)
    return child


def test_throughput(stream: RedisStream) -> None:
    number = 10_000
    started = time.perf_counter()
    stream.send_many((b"x" * 100, {}, None) for _ in range(number))
    sent = time.perf_counter()
    seen = 0
    while group := stream.lease(200):
        seen += len(group)
        stream.acknowledge(group)
    settled = time.perf_counter()
    print(f"sent {number / (sent - started):,.0f}/s, leased and acknowledged {number / (settled - sent):,.0f}/s")
    assert seen == number
    assert number / (settled - sent) > 2_000
