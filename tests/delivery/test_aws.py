"""Sources and sinks on AWS in one stack with leases of 2 s, as `test_pairs` has it for the local ones: SQS queues, SNS
subscriptions and S3's events, against moto. What a pair's handler does with an element is written in `test_pairs`."""

import json
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from buildflow.ir.runtime import RuntimePlan
from tests.delivery import measured, steps, steps_aws
from tests.delivery.test_pairs import _ELEMENT, _HANDLER, APP, BATCH, LEASE, REPLICAS, UNREADABLE, Pairs, Taken
from tests.harness import PLATFORM, Running, environment, kill_all, platform, project, wait_for
from tests.moto import KEYS, REGION, AppliedWithoutPulumi, Moto, moto

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("pairs-aws")]  # they share one stack

PAIRS = [
    "queue_table",
    "queue_file",
    "queue_bucket",
    "queue_queue",
    "queue_topic",
    "subscription_table",
    "files_table",
]
SOURCES = ["queue_table", "subscription_table", "files_table"]
ONCE = [pair for pair in PAIRS if pair.endswith("_table")]
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": KEYS["aws_access_key_id"], "AWS_SECRET_ACCESS_KEY": KEYS["aws_secret_access_key"]}

_SOURCE = {
    "queue": "{key}: {{type: queue, lease: 2s}}",
    "subscription": "{key}_topic: {{type: topic}}\n  {key}: {{type: subscription, topic: {key}_topic, lease: 2s}}",
    "files": "{key}_bucket: {{type: bucket}}\n  {key}: {{type: file_change_stream, bucket: {key}_bucket, lease: 2s}}",
}
_SINK = {
    "table": "{key}: {{type: table, columns: app:Row}}",
    "file": "{key}_bucket: {{type: bucket}}\n"
    "  {key}: {{type: file, bucket: {key}_bucket, path: 'files/{{id}}.jsonl', rotate: {{every: 300ms}}}}",
    "bucket": "{key}: {{type: bucket}}",
    "queue": "{key}: {{type: queue}}",
    "topic": "{key}: {{type: topic}}\n  {key}_seen: {{type: subscription, topic: {key}}}",
}
_CONSUMER = """{pair}:
    source: {pair}_in
    handler: app:{pair}
    sink: {pair}_out
    replicas: {replicas}
    batch: {{size: {batch}}}
    retry: {{backoff: fixed, initial: 1s, jitter: 0, attempts: 50, never: ["app:Poison"]}}"""


def yaml(endpoint: str) -> str:
    primitives, consumers = [], []
    for pair in PAIRS:
        source, sink = pair.split("_")
        primitives += [_SOURCE[source].format(key=f"{pair}_in"), _SINK[sink].format(key=f"{pair}_out")]
        consumers.append(_CONSUMER.format(pair=pair, replicas=REPLICAS, batch=BATCH))
    return "\n".join(
        [
            "project: pairs",
            "default_stack: aws",
            f"stacks: {{aws: {{provider: aws, aws: {{region: {REGION}, endpoint_url: '{endpoint}'}}}}}}",
            "dependencies:",
            '  installed: {factory: "steps_aws:install", scope: global}',
            "primitives:",
            *(f"  {text}" for text in primitives),
            "consumers:",
            *(f"  {text}" for text in consumers),
        ]
    )


def app() -> str:
    handlers = []
    for pair in PAIRS:
        element, number = _ELEMENT[pair.split("_")[0]]
        handlers.append(_HANDLER.format(pair=pair, element=element, number=number))
    return APP + "".join(handlers)


class PairsOnAws(Pairs):
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = ENVIRONMENT
        self.app = self._run()
        self._seen: dict[str, list[Any]] = {}

    def start(self) -> None:
        self.app = self._run().ready()

    def _run(self) -> Running:
        """Its stack is applied, without Pulumi."""
        return Running(self.folder, command=("run", "--port", "0"), **ENVIRONMENT)

    @property
    def plan(self) -> RuntimePlan:
        return RuntimePlan.model_validate_json((self.folder / ".buildflow/aws/plan.json").read_bytes())

    def status(self) -> Any:
        return json.loads(platform(self.folder, "status", "--json", **ENVIRONMENT).stdout)

    def send(self, pairs: Sequence[str], *numbers: int) -> None:
        bodies = [json.dumps({"number": number}).encode() for number in numbers]
        with self.opened() as connections:
            for pair in pairs:
                key = f"{pair}_in"
                if pair.startswith("subscription"):
                    connections.handle(f"{key}_topic").send_many(bodies)
                elif pair.startswith("files"):
                    bucket = connections.handle(f"{key}_bucket")
                    for number in numbers:
                        bucket.write(str(number), b"")
                else:
                    connections.source(key).send_many([(body, {}, None) for body in bodies])  # type: ignore[attr-defined]

    def messages(self, source: str) -> list[Any]:
        """What came to an SQS queue that no consumer reads; it is taken out as it is looked at."""
        seen = self._seen.setdefault(source, [])
        with self.opened() as connections:
            opened = connections.source(source)
            while group := opened.lease(100):
                seen += [json.loads(element.body) for element in group]
                opened.acknowledge(group)
        return seen

    def _arrived(self, pair: str) -> list[int]:
        if not pair.endswith("_file"):
            return super()._arrived(pair)
        with self.opened() as connections:
            bucket = connections.handle(f"{pair}_out_bucket")
            lines = [line for found in bucket.list("files/") for line in bucket.read(found.path).splitlines()]
        return [json.loads(line)["number"] for line in lines]


@pytest.fixture(scope="module")
def aws() -> Iterator[Moto]:
    with moto() as server:
        yield server


@pytest.fixture(scope="module")
def stack(aws: Moto, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PairsOnAws]:
    folder = tmp_path_factory.mktemp("pairs-aws")
    for module in (steps, steps_aws):
        shutil.copy(str(module.__file__), folder)
    project(folder, yaml(aws.url), app=app())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        AppliedWithoutPulumi(aws, folder)
        stack = PairsOnAws(folder)
        try:
            stack.ready()
            yield stack
        finally:
            stack.end()


# nacks


@pytest.fixture(scope="module")
def restarted_after_nacks(stack: PairsOnAws) -> dict[str, int]:
    """Two of five failed when everything was stopped; how many calls there were until then."""
    done = stack.done()
    stack.send(PAIRS, *range(1000, 1005))
    wait_for(
        lambda: all({c.number for c in stack.calls(pair, 1)} == {*range(1000, 1005)} for pair in PAIRS),
        words=stack.app.text,
    )
    wait_for(lambda: all(stack.done()[pair] == done[pair] + 3 for pair in PAIRS), words="the other three are settled")
    stack.stop()
    before = {pair: len(stack.calls(pair, 1)) for pair in PAIRS}
    (stack.folder / "cured").touch()
    stack.start()
    stack.wait_for_numbers(PAIRS, range(1000, 1005))
    return before


@pytest.mark.parametrize("pair", PAIRS)
def test_of_five_elements_the_two_that_failed_come_again_after_a_restart(
    stack: PairsOnAws, restarted_after_nacks: dict[str, int], pair: str
) -> None:
    calls = stack.calls(pair, 1)
    before, after = calls[: restarted_after_nacks[pair]], calls[restarted_after_nacks[pair] :]
    assert sorted({call.number for call in before}) == [1000, 1001, 1002, 1003, 1004]
    assert sorted(call.number for call in after) == [1001, 1003]
    assert all(call.attempt > 1 for call in after)
    assert stack.numbers(pair, 1000, 1999) == [1000, 1001, 1002, 1003, 1004]


# acknowledgements out of order


@pytest.fixture(scope="module")
def disordered(stack: PairsOnAws) -> None:
    """The worker acknowledged every second element before it was killed."""
    (stack.folder / "disordered").write_text(str(len(PAIRS)))
    stack.send(PAIRS, *range(2000, 2000 + steps.COUNT))
    wait_for((stack.folder / "disordered-everybody").exists, words=f"the worker is killed: {stack.app.text}")
    stack.wait_for_numbers(PAIRS, range(2000, 2000 + steps.COUNT))


@pytest.mark.parametrize("pair", PAIRS)
def test_what_was_acknowledged_never_comes_again_and_nothing_else_is_missing(
    stack: PairsOnAws, disordered: None, pair: str
) -> None:
    times = Counter(call.number for call in stack.calls(pair, 2))
    assert {number: count for number, count in times.items() if number % 2} == {2001: 1, 2003: 1, 2005: 1}
    assert all(times[number] >= 2 for number in (2000, 2002, 2004)), "these were never acknowledged"
    arrived = stack.numbers(pair, 2000, 2999)
    assert sorted(set(arrived)) == [2000, 2001, 2002, 2003, 2004, 2005]
    if pair in ONCE:
        assert len(arrived) == 6


# saturation


@pytest.mark.parametrize("pair", SOURCES)
def test_no_more_is_taken_than_there_are_processes_and_groups_ahead(stack: PairsOnAws, pair: str) -> None:
    count = 200
    bound = BATCH * (REPLICAS + 16)
    stack.send([pair], *range(3000, 3000 + count))

    def at_work() -> set[int]:
        return {call.pid for call in stack.calls(pair, 3)}

    with stack.opened() as connections:
        source = connections.source(f"{pair}_in")
        wait_for(lambda: len(at_work()) == REPLICAS, words=f"every process is at work; {stack.app.text}")
        wait_for(lambda: sum(source.counts()) == count, words="all were sent")
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            assert REPLICAS <= source.counts().in_flight <= bound < count
        assert len(stack.calls(pair, 3)) == REPLICAS, "each process has begun with one"
        (stack.folder / f"gate-{pair}").touch()
    stack.wait_for_numbers([pair], range(3000, 3000 + count))
    assert sorted(call.number for call in stack.calls(pair, 3)) == [*range(3000, 3000 + count)]
    assert len(stack.numbers(pair, 3000, 3999)) == count


# poison


@pytest.fixture(scope="module")
def poisoned(stack: PairsOnAws) -> None:
    """Among good elements, one that its handler cannot bear and one that cannot be read at all."""
    stack.send(PAIRS, 4000, 4001)
    with stack.opened() as connections:
        for pair in PAIRS:
            connections.source(f"{pair}_in").send(UNREADABLE, {"from": "a test"})
    stack.send(PAIRS, 4002, 4003, 4004)
    stack.wait_for_numbers(PAIRS, [4000, 4001, 4003, 4004])


@pytest.mark.parametrize("pair", PAIRS)
def test_poison_ends_in_the_dead_letters_and_the_good_beside_it_at_the_sink(
    stack: PairsOnAws, poisoned: None, pair: str
) -> None:
    assert stack.numbers(pair, 4000, 4999) == [4000, 4001, 4003, 4004]
    letters = {letter.error.partition(":")[0]: letter for letter in stack.dead(pair)}
    assert sorted(letters) == ["Poison", "Undecodable"]
    unreadable, bad = letters["Undecodable"], letters["Poison"]
    assert unreadable.payload == UNREADABLE
    assert json.loads(unreadable.headers) == {"from": "a test"}
    assert unreadable.attempts == bad.attempts == 1
    assert steps_aws.number_of(bad.payload) == 4002
    assert bad.source == f"{pair}_in"


# leases


@pytest.fixture(scope="module")
def slow(stack: PairsOnAws) -> None:
    """A handler has worked longer than the lease, while other processes had nothing to do."""
    stack.send(SOURCES, 5000)
    stack.wait_for_numbers(SOURCES, [5000])


@pytest.mark.parametrize("pair", SOURCES)
def test_the_lease_of_a_living_worker_is_renewed(stack: PairsOnAws, slow: None, pair: str) -> None:
    assert [call.attempt for call in stack.calls(pair, 5) if call.number == 5000] == [1]
    assert stack.numbers(pair, 5000, 5000) == [5000]


@pytest.fixture(scope="module")
def taken_over(stack: PairsOnAws) -> Taken:
    """While elements are in its hands, a worker is paused, so that it cannot renew, and goes on later as if nothing
    had been; and another time killed. A second worker takes what they held."""

    def begun(number: int) -> bool:
        return all([c for c in stack.calls(pair) if c.number == number] for pair in SOURCES)

    def again(number: int) -> bool:
        return all([c for c in stack.calls(pair) if c.number == number and c.attempt > 1] for pair in SOURCES)

    def all_ready() -> bool:
        return all(p["state"] == "ready" for p in stack.status()["processes"])

    stack.send(SOURCES, 5100)
    wait_for(lambda: begun(5100), words="a worker has them")
    (first,) = stack.app.processes("worker")
    log = (stack.folder / "second-worker.log").open("w")
    second = subprocess.Popen([*PLATFORM, "worker"], cwd=stack.folder, env=environment(**ENVIRONMENT), stderr=log)
    try:
        wait_for(lambda: len([p for p in stack.status()["processes"] if p["kind"] == "worker"]) == 2)
        wait_for(all_ready)
        frozen = [first, *first.children()]
        paused = time.time()
        for process in frozen:
            process.suspend()
        wait_for(lambda: again(5100), words="the second worker has them")
        stack.wait_for_numbers(SOURCES, [5100])
        (stack.folder / "gate-5100").touch()
        for process in frozen:
            process.resume()
        wait_for(all_ready)

        stack.send(SOURCES, 5200)
        wait_for(lambda: begun(5200), words="a worker has them")
        holders = {c.parent for pair in SOURCES for c in stack.calls(pair) if c.number == 5200}
        killed = time.time()
        kill_all(process for process in psutil.process_iter() if process.pid in holders)
        wait_for(lambda: again(5200), words=f"they come again\n{stack.app.text}")
        stack.wait_for_numbers(SOURCES, [5200])
        return Taken(killed, paused)
    finally:
        if second.poll() is None:
            second.send_signal(signal.SIGINT)
        second.wait(timeout=60)
        log.close()


@pytest.mark.parametrize("pair", SOURCES)
def test_the_lease_of_a_worker_that_is_gone_lapses_and_its_element_comes_again(
    stack: PairsOnAws, taken_over: Taken, pair: str
) -> None:
    calls = {number: [c for c in stack.calls(pair) if c.number == number] for number in (5100, 5200)}
    assert [c.attempt for c in calls[5100]] == [1, 2]
    assert calls[5100][1].at - taken_over.paused < LEASE + 2.5, "SQS counts in whole seconds, and is asked once in one"
    assert stack.numbers(pair, 5100, 5100) == [5100], "the late commit of the worker that was paused writes nothing"
    assert [c.attempt for c in calls[5200]] == [1, 2]
    assert stack.numbers(pair, 5200, 5200) == [5200]


# killed at every step


@pytest.fixture(scope="module", params=steps.STEPS)
def killed_at(stack: PairsOnAws, request: pytest.FixtureRequest) -> str:
    """The name of the step at which each pair's process was killed once."""
    step: str = request.param
    first = steps.FIRST[step]
    (stack.folder / step).write_text(str(len(PAIRS)))
    stack.send(PAIRS, *range(first, first + steps.COUNT))
    marks = ["everybody"] if step == "acknowledging" else PAIRS
    for mark in marks:
        wait_for((stack.folder / f"{step}-{mark}").exists, words=f"{step}-{mark}: {stack.app.text}")
    stack.wait_for_numbers(PAIRS, range(first, first + steps.COUNT))
    counts = {pair: len(stack.numbers(pair, first, first + 9)) - steps.COUNT for pair in PAIRS}
    told = ", ".join(f"{pair} {count}" for pair, count in counts.items() if pair not in ONCE)
    measured.tell(f"AWS, killed when {step}: duplicates of {steps.COUNT} elements: {told}")
    return step


@pytest.mark.parametrize("pair", PAIRS)
def test_killed_at_a_step_nothing_is_lost_and_transactional_sinks_have_it_once(
    stack: PairsOnAws, killed_at: str, pair: str
) -> None:
    first = steps.FIRST[killed_at]
    expected = [*range(first, first + steps.COUNT)]
    arrived = stack.numbers(pair, first, first + 9)
    assert sorted(set(arrived)) == expected
    if pair in ONCE:
        assert arrived == expected
    calls = [call for call in stack.calls(pair, 6) if first <= call.number < first + 10]
    assert len(calls) > steps.COUNT, "the kill had an effect"
    letters = [letter for letter in stack.dead(pair) if letter.payload != UNREADABLE]
    assert [steps_aws.number_of(letter.payload) for letter in letters] in ([], [4002])


# by hand


def test_an_event_sent_by_hand_goes_the_same_way(stack: PairsOnAws) -> None:
    sent = platform(stack.folder, "send", "files_table_in", '{"file_path": "7000"}')
    assert sent.returncode == 0, sent.stderr
    stack.wait_for_numbers(["files_table"], [7000])


def test_a_dead_letter_is_sent_again_as_it_came(stack: PairsOnAws, poisoned: None) -> None:
    [bad] = [letter for letter in stack.dead("files_table") if letter.error.startswith("Poison")]
    replayed = platform(stack.folder, "dlq", "replay", "files_table", bad.id)
    assert replayed.returncode == 0, replayed.stderr

    def dead_again() -> bool:
        return any(letter.id == bad.id and letter.dead_at > bad.dead_at for letter in stack.dead("files_table"))

    wait_for(dead_again, words=stack.app.text)
    [again] = [letter for letter in stack.dead("files_table") if letter.id == bad.id]
    assert (again.payload, again.attempts) == (bad.payload, 1)
