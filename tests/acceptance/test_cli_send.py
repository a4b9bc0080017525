"""send: many messages, from every place, at a rate; on a stack that is applied and does not run."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.harness import PLATFORM, environment, platform, project, rows, running, status, wait_for

pytestmark = pytest.mark.xdist_group("cli-send")  # they share one applied stack

YAML = """
project: post
primitives:
  bulk: {type: queue}
  slow: {type: queue}
  piped: {type: queue}
  typed: {type: queue, message: post:Parcel}
  marked: {type: queue}
  news: {type: topic, message: post:Parcel}
  all_news: {type: subscription, topic: news}
  vip_news: {type: subscription, topic: news, filter: {kind: [vip]}}
  told: {type: queue}
  seen: {type: table, columns: post:Seen}
consumers:
  carry: {source: bulk, handler: post:carry}
  crawl: {source: slow, handler: post:carry}
  pipe: {source: piped, handler: post:carry}
  weigh: {source: typed, handler: post:weigh}
  mark: {source: marked, handler: post:mark, sink: seen}
  read: {source: all_news, handler: post:weigh}
  tell:
    source: told
    handler: post:tell
    sink: [{to: seen, when: post:Seen}, {to: news, when: buildflow.types:Message}]
  flatter: {source: vip_news, handler: post:weigh}
"""
MODULE = """
from dataclasses import dataclass
from buildflow.types import Message

@dataclass
class Parcel:
    id: int

@dataclass
class Seen:
    id: str
    attributes: str

def carry(parcel: dict) -> None: ...
def weigh(parcel: Parcel) -> None: ...
def tell(parcel: Parcel) -> list[Seen | Message[Parcel]]:
    return [Seen(f"told {parcel.id}", ""), Message(parcel, attributes={"kind": "vip"})]
def mark(message: Message[dict]) -> Seen:
    return Seen(message.id, str(sorted(message.attributes.items())))
"""


def run(folder: Path, *arguments: str, input: str = "", expect: int = 0) -> Any:
    result = platform(folder, *arguments, input=input)
    assert result.returncode == expect, f"{result.returncode}: {result.stdout}{result.stderr}"
    assert "Traceback" not in result.stderr
    return result


def backlog(folder: Path, source: str) -> int:
    return next(int(c["backlog"]) for c in status(folder)["consumers"] if c["source"] == source)


@pytest.fixture(scope="module")
def post(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = project(tmp_path_factory.mktemp("post"), YAML, post=MODULE)
    run(folder, "apply", "--yes")
    return folder


def test_a_file_of_20_000_lines_goes_in_groups(post: Path) -> None:
    (post / "many.jsonl").write_text("".join(f'{{"id": {n}}}\n' for n in range(20_000)))
    before = backlog(post, "bulk")
    sent = run(post, "send", "bulk", "--from", "many.jsonl")
    assert "sent 20,000 to bulk" in sent.stderr
    assert len(set(sent.stdout.split())) == 20_000
    assert backlog(post, "bulk") == before + 20_000


def test_an_interruption_says_how_many_were_sent(post: Path) -> None:
    (post / "lines.jsonl").write_text("{}\n" * 1000)
    process = subprocess.Popen(
        [*PLATFORM, "send", "slow", "--from", "lines.jsonl", "--rate", "50/s", "--json"], cwd=post, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    started = time.monotonic()
    wait_for(lambda: backlog(post, "slow") >= 20)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=30)
    took = time.monotonic() - started
    assert process.returncode == 130
    count = backlog(post, "slow")
    assert f"interrupted: sent {count} to slow" in said
    assert 20 <= count <= took * 50 + 5
    assert len(json.loads(out)) == count, "the list is whole"


def test_lines_of_a_pipe_are_sent_as_they_come(post: Path) -> None:
    process = subprocess.Popen(
        [*PLATFORM, "send", "piped"], cwd=post, env=environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b'{"id": 1}\r\n\n{"id"')
    process.stdin.flush()
    assert len(process.stdout.readline()) == 33, "its id is there before the pipe ends"
    assert backlog(post, "piped") == 1
    out, said = process.communicate(b": 2}", timeout=30)
    assert process.returncode == 0
    assert len(out.split()) == 1
    assert b"sent 2 to piped" in said
    assert backlog(post, "piped") == 2


@pytest.mark.parametrize("through", ["arguments", "file", "pipe"])
def test_of_a_typed_source_all_are_checked_first(post: Path, through: str) -> None:
    lines = ['{"id": 1}'] * 3 + ['{"id": "x"}']
    (post / "bad.jsonl").write_text("\n".join(lines))
    arguments = {"arguments": lines, "file": ["--from", "bad.jsonl"], "pipe": []}[through]
    refused = run(post, "send", "typed", *arguments, input="\n".join(lines), expect=1)
    assert 'error: "typed" carries Parcel: "id": ' in refused.stderr
    assert "4 of those given; the source has none of them" in refused.stderr
    assert backlog(post, "typed") == 0


def test_attributes_and_an_id_arrive(post: Path) -> None:
    sent = run(post, "send", "marked", "{}", "--id", "parcel-7", "-a", "kind=vip", "--attribute", "note=a=b")
    assert sent.stdout == "parcel-7\n"
    assert data_of(post) == [{"id": "parcel-7", "attributes": "[('kind', 'vip'), ('note', 'a=b')]"}]


def data_of(folder: Path) -> Any:
    """What the consumer writes of what waits: the app runs for a moment."""
    with running(folder) as app:
        app.ready()
        return wait_for(lambda: rows(folder, "seen"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{}", "{}", "--id", "x"], "the id of one message"),
        (["--id", "x"], "the id of one message"),
        (["{}", "--from", "x"], "given twice"),
        (["--from", "no-such-file"], "cannot be read"),
        (["{}", "-a", "x"], "is not name=value"),
        (["{}", "--rate", "0/s"], "no rate; write 100/s"),
    ],
)
def test_wrong_usage_ends_with_2(post: Path, arguments: list[str], words: str) -> None:
    assert words in " ".join(run(post, "send", "bulk", *arguments, expect=2).stderr.replace("│", "").split())


def test_what_is_sent_to_a_topic_reaches_the_subscriptions_whose_filter_it_passes(post: Path) -> None:
    sent = run(post, "send", "news", '{"id": 1}', "--attribute", "kind=vip", "--id", "one")
    assert sent.stdout == "one\n"
    run(post, "send", "news", '{"id": 2}', '{"id": 3}')
    assert (backlog(post, "all_news"), backlog(post, "vip_news")) == (3, 1)
    refused = run(post, "send", "news", '{"id": "x"}', expect=1)
    assert '"news" carries Parcel' in refused.stderr
    assert backlog(post, "all_news") == 3


def test_one_handler_feeds_a_table_and_a_topic_with_filters(post: Path) -> None:
    before = backlog(post, "vip_news")
    run(post, "invoke", "tell", '{"id": 9}', "--commit")
    assert "told 9" in [row["id"] for row in rows(post, "seen")]
    assert backlog(post, "vip_news") == before + 1
