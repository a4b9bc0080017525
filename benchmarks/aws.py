"""Messages a second out of SQS, into committed rows: against a bare loop of boto3 that only receives and deletes.

moto's server is in this process, and is what both of them wait for: each asks for ten messages, and deletes ten.
"""

import contextlib
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from moto.sqs.models import Message, sqs_backends

from benchmarks.delivery import ROOT, _process, _rate
from benchmarks.figures import Figure
from tests.harness import PLATFORM, project
from tests.moto import KEYS, REGION, AppliedWithoutPulumi, Moto, moto

ROUNDS = 5
MESSAGES = 2_000
ACCOUNT = "123456789012"
SIGNED_IN = {
    "AWS_ACCESS_KEY_ID": KEYS["aws_access_key_id"],
    "AWS_SECRET_ACCESS_KEY": KEYS["aws_secret_access_key"],
    "AWS_DEFAULT_REGION": REGION,
}
YAML = """
project: bench
default_stack: aws
stacks: {aws: {provider: aws, aws: {region: REGION, endpoint_url: "URL"}}}
primitives:
  jobs: {type: queue}
  rows: {type: table, columns: app:Row}
consumers:
  work: {source: jobs, handler: app:work, sink: rows, replicas: 2, batch: {size: 100}}
"""
APP = """
from dataclasses import dataclass

@dataclass
class Row:
    id: int
    name: str

def work(job: Row) -> Row:
    return job
"""


def measure() -> list[Figure]:
    runs: dict[str, Callable[[Moto], float]] = {"bare": _bare, "own": _own}
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            with moto() as aws:
                found[name].append(run(aws))
    rates = {name: median(values) for name, values in found.items()}
    return [
        Figure(
            "SQS -> handler -> DuckDB / a bare loop of boto3",
            round(rates["own"] / rates["bare"], 2),
            "x",
            0.8,
            "more",
            f"{rates['own']:,.0f}/s; boto3 {rates['bare']:,.0f}/s; both wait for moto",
        )
    ]


def _bare(aws: Moto) -> float:
    url = aws.queue("bare")["url"]
    messages = _filled("bare")
    command = [sys.executable, str(ROOT / "benchmarks/hand_written_boto3.py")]
    with (
        tempfile.TemporaryDirectory(prefix="bf-") as folder,
        _process(command, Path(folder), ENDPOINT=aws.url, QUEUE=url, **SIGNED_IN),
    ):
        return _rate(lambda: len(messages()), MESSAGES)


def _own(aws: Moto) -> float:
    with _project(aws) as folder, pytest.MonkeyPatch.context() as patch:
        for name, value in SIGNED_IN.items():
            patch.setenv(name, value)
        AppliedWithoutPulumi(aws, folder)
        messages = _filled("bench-aws-jobs")
        with _process([*PLATFORM, "worker"], folder, **SIGNED_IN):
            return _rate(lambda: len(messages()), MESSAGES)


def _filled(name: str) -> Callable[[], list[Any]]:
    """Fill a queue where it is, which is quicker than to send; what is in it."""
    queue = sqs_backends[ACCOUNT][REGION].queues[name]
    for number in range(MESSAGES):
        message = Message(str(uuid.uuid4()), f'{{"id": {number}, "name": "name {number}"}}')
        message.mark_sent()
        queue.add_message(message)
    return lambda: queue._messages


@contextlib.contextmanager
def _project(aws: Moto) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bf-") as name:
        yield project(Path(name), YAML.replace("REGION", REGION).replace("URL", aws.url), app=APP)
