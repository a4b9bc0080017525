"""One stack on hosts of their own, which share nothing but a broker and a Redis, and what befalls them under load."""

import contextlib
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.delivery import measured
from tests.delivery.hosts import Host, Network, Part, RabbitMQ, Redis, network
from tests.harness import project, wait_for

pytestmark = pytest.mark.slow

YAML = """
project: spread
stacks:
  local: {{provider: local, state_url: "{state_url}", broker_url: "{broker_url}"}}
primitives:
  inbox: {{type: queue, lease: 2s}}
  outbox: {{type: queue}}
  each_second: {{type: schedule, every: 1s, missed: all, lease: 2s}}
  ticks: {{type: queue}}
routes:
  POST /numbers/{{number}}: app:accept
consumers:
  work: {{source: inbox, handler: app:work, sink: outbox, replicas: 2, batch: {{size: 20}}}}
  tick: {{source: each_second, handler: app:tick, sink: ticks}}
"""

APP = """
import socket, time
from dataclasses import dataclass
from pathlib import Path
from buildflow.types import Message, Queue, Tick

@dataclass
class Job:
    number: int

def accept(number: int, inbox: Queue) -> dict:
    inbox.send({"number": number})
    return {"number": number}

def work(job: Message[Job]) -> dict:
    while Path("wait").exists():
        time.sleep(0.05)
    time.sleep(0.01)
    return {"number": job.data.number, "host": socket.gethostname(), "attempt": job.attempt, "plan": "old"}

def tick(tick: Tick) -> dict:
    return {"time": str(tick.time)}
"""

SENDER = """
import http.client, signal, sys, time
going = True
def stop(*_):
    global going
    going = False
signal.signal(signal.SIGTERM, stop)
connection = http.client.HTTPConnection(sys.argv[1], 8000)
number, due = int(sys.argv[2]), time.monotonic()
while going:
    connection.request("POST", f"/numbers/{number}")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200, answer.status
    number += 1
    due += 1 / 150
    time.sleep(max(0.0, due - time.monotonic()))
print("sent up to", number, flush=True)
"""

TRAP = """
import os, sys
from kombu import Connection, Exchange
class Trap:
    def __reduce__(self):
        return os.mkdir, (sys.argv[2],)
options = {"global_keyprefix": "spread-local:celery:"} if sys.argv[1].startswith("redis") else {}
with Connection(sys.argv[1], transport_options=options) as connection:
    producer = connection.Producer(serializer="pickle")
    producer.publish(Trap(), routing_key="spread-local.main")
    producer.publish(Trap(), routing_key="spread-local.main", headers={"task": "buildflow.group", "id": "1"})
    control = Exchange("spread-local.control.pidbox", "fanout", durable=False, delivery_mode="transient")
    producer.publish(Trap(), exchange=control, declare=[control])
"""

WATCH_REDIS = """
import ast, base64, json, re, sys
import redis
with redis.Redis.from_url(sys.argv[1]).monitor() as monitor:
    print("watching", flush=True)
    while True:
        for found in re.findall(rb'"((?:[^"\\\\]|\\\\.)*)"', monitor.connection.read_response()):
            text = ast.literal_eval(f'b"{found.decode()}"')
            if text.startswith(b'{"body"'):
                message = json.loads(text)
                body = base64.b64decode(message["body"]).decode()
                print(json.dumps({"type": message["content-type"], "body": body}), flush=True)
"""

WATCH_RABBITMQ = """
import json, sys
from kombu import Connection, Exchange, Queue
with Connection(sys.argv[1]) as connection:
    trace = Exchange("amq.rabbitmq.trace", type="topic", no_declare=True)
    with connection.Consumer(Queue("", trace, routing_key="publish.#", exclusive=True), no_ack=True) as consumer:
        def tell(message):
            body = bytes(message.body).decode()
            print(json.dumps({"type": message.headers["properties"]["content_type"], "body": body}), flush=True)
        consumer.on_message = tell
        print("watching", flush=True)
        while True:
            connection.drain_events()
"""

CELERY = [str(Path(sys.executable).with_name("celery")), "-A", "buildflow.celery"]


class Spread:
    """The project on four hosts: the gateway and a watcher on `front`, workers on `left` and `right`, a watcher on
    `clock`, whence messages are sent."""

    def __init__(self, net: Network, redis: Redis, broker: Redis | RabbitMQ) -> None:
        self.net = net
        self.redis = redis
        self.broker = broker
        self.broker_url = broker.url(1) if isinstance(broker, Redis) else broker.url
        self.front, self.left, self.right, self.clock = (net.add(n) for n in ("front", "left", "right", "clock"))
        self.first = self.next = 0
        """The first number of this test, and the next one to send."""
        self.before: dict[str, str] = {}
        """The last entry of each queue when this test began."""
        for host in self.hosts:
            project(host.folder, YAML.format(state_url=redis.url(0), broker_url=self.broker_url), app=APP)
            (host.folder / "sender.py").write_text(SENDER)
            host.run("apply", "--yes")
        parts = [
            self.front.start("gateway", "--host", "0.0.0.0"),
            self.front.start("watcher"),
            self.left.start("worker"),
            self.right.start("worker"),
            self.clock.start("watcher"),
        ]
        self.parts = {(part.name, part.host.name): part.ready() for part in parts}

    @property
    def sent(self) -> int:
        """How many messages this test has sent."""
        return self.next - self.first

    @property
    def kind(self) -> str:
        return type(self.broker).__name__

    @property
    def hosts(self) -> list[Host]:
        return [self.front, self.left, self.right, self.clock]

    # what is sent

    def send(self, count: int) -> range:
        """Numbers in one go, from `clock`."""
        numbers = range(self.next, self.next + count)
        self.next += count
        self.clock.run("send", "inbox", input="".join(f'{{"number": {number}}}\n' for number in numbers))
        return numbers

    @contextlib.contextmanager
    def requests(self) -> Iterator[None]:
        """Meanwhile `clock` sends 150 numbers a second through the gateway, each of which has to be accepted."""
        sender = self.clock.start(sys.executable, "sender.py", self.net.address("front"), str(self.next), name="sender")
        yield
        assert sender.stop() == 0, sender.log
        self.next = int(sender.wait_for_line(r"sent up to (\d+)")[1])

    @contextlib.contextmanager
    def held_up(self) -> Iterator[None]:
        """Meanwhile both workers have numbers in hand and finish none."""
        marks = [host.folder / "wait" for host in (self.left, self.right)]
        for mark in marks:
            mark.touch()
        yield
        for mark in marks:
            mark.unlink()

    # what has come of it

    def begin(self) -> None:
        """Look away from what was before."""
        self.first = self.next
        for key in ("outbox", "ticks"):
            last = self.redis.client().xrevrange(f"spread-local-{key}", count=1)
            self.before[key] = last[0][0].decode() if last else "0"

    def entries(self, key: str) -> list[dict[str, Any]]:
        found = self.redis.client().xrange(f"spread-local-{key}", min=f"({self.before[key]}")
        return [json.loads(fields[b"body"]) for _, fields in found]

    def done(self) -> list[dict[str, Any]]:
        return self.entries("outbox")

    def by(self, host: str) -> list[dict[str, Any]]:
        return [row for row in self.done() if row["host"] == host]

    def expect_all(self) -> int:
        """Everything that was sent has been done, and nothing is left; the number of duplicates."""
        wait_for(self._is_drained, 180, "the inbox is empty")
        found = Counter(row["number"] for row in self.done())
        lost = [number for number in range(self.first, self.next) if number not in found]
        assert lost == [], f"{len(lost)} of {self.sent} lost"
        assert json.loads(self.front.run("dlq", "ls", "--all", "--json")) == []
        return found.total() - len(found)

    def _is_drained(self) -> bool:
        client = self.redis.client()
        return not client.xlen("spread-local-inbox") and not client.zcard("spread-local-inbox:delayed")

    def holds(self, host: str) -> int:
        """How many elements a worker's host has leased; its name in the group tells its namespace."""
        namespace = os.stat(f"/proc/{self.net.hosts[host].pid}/ns/pid").st_ino
        consumers = self.redis.client().xinfo_consumers("spread-local-inbox", "buildflow")
        return sum(consumer["pending"] for consumer in consumers if f":{namespace}/".encode() in consumer["name"])

    # who does it

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.front.run("status", "--json"))
        return found

    def pids(self) -> dict[tuple[str, str], int]:
        """Of all processes, each of which is the only one of its kind on its host, once `status` hears all of them."""

        def heard() -> dict[tuple[str, str], int]:
            found = {(p["kind"], p["host"]): int(p["pid"]) for p in self.status()["processes"]}
            return found if set(found) == set(self.parts) else {}

        pids: dict[tuple[str, str], int] = wait_for(heard, words="every heart beats")
        return pids

    def celery(self, *words: str) -> Part:
        """Celery's own command, on `clock`."""
        return self.clock.start(*CELERY, *words, name="-".join(words[:2]), FLOWER_UNAUTHENTICATED_API="true")

    def workers(self) -> set[str]:
        """The names of both workers, for Celery."""
        return {f"main@{host}-{pid}" for (kind, host), pid in self.pids().items() if kind == "worker"}

    @contextlib.contextmanager
    def crossing(self) -> Iterator[list[dict[str, str]]]:
        """The content type and the body of each message that crosses the broker; there when the block has ended."""
        rabbitmq = self.broker if isinstance(self.broker, RabbitMQ) else None
        if rabbitmq:
            rabbitmq.control("trace_on")
        script = WATCH_RABBITMQ if rabbitmq else WATCH_REDIS
        watch = self.net.switch.start(sys.executable, "-c", script, self.broker_url, name="watch")
        watch.wait_for_line("watching")
        found: list[dict[str, str]] = []
        yield found
        watch.stop()
        found += [json.loads(line) for line in watch.log.splitlines()[1:]]
        if rabbitmq:
            rabbitmq.control("trace_off")


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def deployed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spread]:
    with network(tmp_path_factory.mktemp(request.param)) as net:
        redis = Redis(net.switch)
        broker: Redis | RabbitMQ = redis
        if request.param == "rabbitmq":
            broker = RabbitMQ(net.switch)
            broker.start()
        yield Spread(net, redis, broker)


@pytest.fixture
def spread(deployed: Spread) -> Spread:
    deployed.begin()
    return deployed


with_redis = pytest.mark.parametrize("deployed", ["redis"], indirect=True)
"""For what has nothing to do with the broker."""


def test_gateway_workers_and_watchers_on_hosts_of_their_own_are_one_stack(spread: Spread) -> None:
    with spread.requests():
        wait_for(lambda: spread.by("left") and spread.by("right"), words="both workers work")
        wait_for(lambda: len(spread.entries("ticks")) > 1, words="the clock ticks")
    assert spread.expect_all() == 0
    spread.pids()
    status = spread.status()
    assert status["ready"]
    assert [p["leading"] for p in status["processes"] if p["kind"] == "watcher"].count(True) == 1


def test_celery_inspect_shows_the_workers_and_their_groups(spread: Spread) -> None:
    questions = ("active", "ping", "stats", "registered")
    with spread.held_up():
        spread.send(100)
        wait_for(lambda: spread.holds("left") and spread.holds("right"), words="both have work in hand")
        asked = {what: spread.celery("inspect", what, "--json", "--timeout=5") for what in questions}
        answers = {what: json.loads(part.expect_end().splitlines()[0]) for what, part in asked.items()}
    workers = spread.workers()
    assert {what: set(answers[what]) for what in questions} == dict.fromkeys(questions, workers)
    groups = [group for groups in answers["active"].values() for group in groups]
    assert [group["name"] for group in groups] == ["buildflow.group"] * 4
    assert all(re.fullmatch(r"work x\d+", *group["args"]) for group in groups), groups
    for worker in workers:
        assert answers["ping"][worker] == {"ok": "pong"}
        assert answers["registered"][worker] == ["buildflow.group"]
        assert len(answers["stats"][worker]["pool"]["processes"]) == 2
    assert spread.expect_all() == 0


def test_flower_shows_workers_and_groups_and_nothing_but_json_crosses_the_broker(spread: Spread) -> None:
    address = f"http://{spread.net.address('clock')}:5555"
    fetch = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=60).read().decode())"

    def get(path: str) -> str:
        return spread.front.run(sys.executable, "-c", fetch, address + path)

    def groups() -> list[dict[str, Any]]:
        tasks = json.loads(get("/api/tasks")).values()
        return [task for task in tasks if (task["args"] or "").startswith("work x") and task["state"] == "SUCCESS"]

    def alive() -> dict[str, bool]:
        return {row["hostname"]: row["status"] for row in json.loads(get("/workers?json=1"))["data"]}

    with spread.crossing() as crossed, spread.requests():
        flower = spread.celery("flower", "--address=0.0.0.0", "--port=5555")
        flower.wait_for_line("Connected to")
        workers = spread.workers()
        wait_for(lambda: set(json.loads(get("/api/workers"))) == workers, words="Flower knows the workers")
        wait_for(lambda: {task["worker"] for task in groups()} == workers, words="Flower knows groups of both")
        assert "<title>Workers" in get("/workers")
        wait_for(lambda: alive() == dict.fromkeys(workers, True), words="Flower hears the hearts of both")
        flower.kill()  # asked to end it waits for its own threads, as long as they please
    assert spread.expect_all() == 0
    assert {message["type"] for message in crossed} == {"application/json"}
    kinds = {
        "heartbeat": "worker-heartbeat",
        "events": "task-succeeded",
        "question": '"method"',
        "answer": "max-concurrency",
    }
    for kind, mark in kinds.items():
        assert any(mark in message["body"] for message in crossed), kind
    assert not any('"number"' in message["body"] for message in crossed), "elements do not cross the broker"


def test_a_pickle_and_a_group_from_the_broker_are_refused_and_the_worker_goes_on(spread: Spread) -> None:
    before = spread.pids()
    trap = spread.net.folder / "trap"
    spread.front.run(sys.executable, "-c", TRAP, spread.broker_url, str(trap))
    group = json.dumps(["work", [], ""])
    spread.front.run(*CELERY, "call", "buildflow.group", f"--args={group}", "--queue=spread-local.main")
    workers = [spread.parts["worker", host] for host in ("left", "right")]

    def count(words: str) -> int:
        return sum(worker.log.count(words) for worker in workers)

    wait_for(lambda: count("refused a message to buildflow.group") == 2, words="the groups are refused")
    wait_for(lambda: count("Can't decode message body: ContentDisallowed") == 3, words="so are the pickles")
    assert not trap.exists()
    spread.send(100)
    assert spread.expect_all() == 0
    assert spread.pids() == before


def test_a_host_cut_off_under_load_loses_nothing_and_goes_on_when_it_rejoins(spread: Spread) -> None:
    before, worker = spread.pids(), spread.parts["worker", "left"]
    # with Redis until it has noticed by itself that nothing answers; RabbitMQ's client notices within seconds
    notices = "does not answer" if isinstance(spread.broker, Redis) else "Connection to broker lost"
    with spread.requests():
        with spread.held_up():
            wait_for(lambda: spread.holds("left"), words="left has leases")
            spread.net.cut_off("left")
        since = time.monotonic()
        again = wait_for(lambda: [row for row in spread.done() if row["attempt"] > 1], words="leases lapse")
        assert {row["host"] for row in again} == {"right"}
        wait_for(lambda: notices in worker.log, words="left notices")
        seconds, rejoined = time.monotonic() - since, len(spread.done())
        spread.net.rejoin("left")
        wait_for(
            lambda: any(row["host"] == "left" for row in spread.done()[rejoined + 200 :]), words="left works again"
        )
    duplicates = spread.expect_all()
    assert spread.pids() == before
    measured.tell(f"{spread.kind}, a host cut off for {seconds:.0f} s: {duplicates} of {spread.sent} messages twice")


def test_a_broker_killed_and_started_again_under_load_loses_nothing(spread: Spread) -> None:
    before = spread.pids()
    with spread.requests():
        with spread.held_up():
            wait_for(lambda: spread.holds("left"), words="left has leases")
            spread.broker.kill()
        spread.broker.start()
        started = len(spread.done())
        wait_for(lambda: len(spread.done()) > started + 100, words="it goes on")
    duplicates = spread.expect_all()
    assert spread.pids() == before
    measured.tell(f"{spread.kind} killed: {duplicates} of {spread.sent} messages twice")


@with_redis
def test_another_watcher_takes_over_from_one_that_is_cut_off(spread: Spread) -> None:
    def leader() -> str:
        """The host of the watcher that leads; the lock's holder is known by its host."""
        holder: bytes = spread.redis.client().get("spread-local:leader:watcher") or b""
        return holder.decode().partition(":")[0]

    cut = wait_for(leader)
    spread.net.cut_off(cut)
    try:
        wait_for(lambda: leader() not in ("", cut), words="another leads")
        ticked = len(spread.entries("ticks"))
        wait_for(lambda: len(spread.entries("ticks")) > ticked + 2, words="the clock ticks on")
    finally:
        spread.net.rejoin(cut)
    spread.pids()
    times = sorted(datetime.fromisoformat(row["time"]) for row in spread.entries("ticks"))
    assert {later - earlier for earlier, later in pairwise(times)} == {timedelta(seconds=1)}, "each tick once"


@with_redis
def test_a_change_rolled_out_under_load_loses_nothing_and_repeats_nothing(spread: Spread) -> None:
    def plans(host: str) -> set[str]:
        return {row["plan"] for row in spread.by(host)}

    with spread.requests():
        for host in (spread.left, spread.right):
            yaml = (host.folder / "buildflow.yaml").read_text()
            changed = yaml.replace("lease: 2s", "lease: 3s").replace("size: 20", "size: 50")
            (host.folder / "buildflow.yaml").write_text(changed)
            (host.folder / "app.py").write_text(APP.replace('"old"', '"new"'))
            assert "keeps its old plan" in host.start("apply", "--yes").expect_end()
        for host in (spread.left, spread.right):
            wait_for(lambda name=host.name: spread.holds(name), words="it has leases")
            assert plans(host.name) == {"old"}
            stopped = spread.parts["worker", host.name]
            assert stopped.stop() == 0
            assert "does not end; killing it" not in stopped.log
            assert not spread.holds(host.name), "it has finished or given back what it had leased"
            spread.parts["worker", host.name] = host.start("worker").ready()
            wait_for(lambda name=host.name: plans(name) == {"old", "new"}, words="the new plan works")
            if host is spread.left:
                assert plans("right") == {"old"}
    assert spread.expect_all() == 0
    assert {row["attempt"] for row in spread.done()} == {1}
