"""dlq: from listing to replay, for letters in the stack's own store and in a table, on an app that runs."""

import base64
import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import PLATFORM, Running, environment, platform, project, rows, running, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cli-dlq")]  # they share one running app

YAML = """
project: mill
primitives:
  grain: {type: queue}
  coal: {type: queue}
  typed: {type: queue, message: mill:Sack}
  flour: {type: table, columns: mill:Sack}
  graves: {type: table, columns: buildflow.types:DeadLetter}
consumers:
  grind: {source: grain, handler: mill:grind, sink: flour, retry: {attempts: 2, initial: 20ms}}
  burn: {source: coal, handler: mill:burn, dead_letter: graves, retry: {attempts: 1}}
  stow: {source: typed, handler: mill:stow, retry: {attempts: 1}}
"""

MODULE = """
from dataclasses import dataclass
from pathlib import Path

@dataclass
class Sack:
    id: int
    kind: str = "wheat"

def grind(sack: Sack) -> Sack:
    if sack.kind == "stone":
        raise ValueError("a stone is no grain\\nat all")
    if sack.kind == "rye" and not Path("rye").exists():
        raise LookupError("no rye today")
    return sack

def burn(coal: bytes) -> None:
    if not Path("fire").exists():
        raise OSError("no fire")

def stow(sack: Sack) -> None:
    if sack.id < 10:
        raise ValueError("too small")
"""


def run(folder: Path, *arguments: str, input: str = "", expect: int = 0, **more: str) -> Any:
    result = platform(folder, *arguments, input=input, **more)
    assert result.returncode == expect, f"{result.returncode}: {result.stdout}{result.stderr}"
    assert "Traceback" not in result.stderr
    return result


def data(folder: Path, *arguments: str, **more: str) -> Any:
    return json.loads(run(folder, *arguments, **more).stdout)


def letters(folder: Path, consumer: str, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = data(folder, "dlq", "ls", consumer, "--all", "--json", *options)
    return found


def dead(folder: Path, consumer: str, count: int) -> list[dict[str, Any]]:
    """The letters of a consumer, once there are so many."""
    words = f"{count} dead letters of {consumer}"
    found: list[dict[str, Any]] = wait_for(lambda: len(x := letters(folder, consumer)) == count and x, words=words)
    return found


def send(folder: Path, source: str, *messages: str) -> list[str]:
    found: list[str] = run(folder, "send", source, *messages).stdout.split()
    return found


def editor(folder: Path, script: str) -> dict[str, str]:
    """An editor: a shell script that finds the file in $1."""
    path = folder / "editor.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"EDITOR": str(path), "VISUAL": "", "TMPDIR": str(folder)}


@pytest.fixture(scope="module")
def mill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(project(tmp_path_factory.mktemp("mill"), YAML, mill=MODULE)) as app:
        yield app.ready()


@pytest.fixture
def folder(mill: Running) -> Iterator[Path]:
    """The app's folder, without letters before and after."""
    yield mill.folder
    for consumer in {group["consumer"] for group in data(mill.folder, "dlq", "ls", "--json")}:
        run(mill.folder, "dlq", "drop", consumer, "--yes")
    for name in ("rye", "fire"):
        (mill.folder / name).unlink(missing_ok=True)


def test_letters_are_grouped_by_the_class_and_first_line_of_their_error(folder: Path) -> None:
    stones = send(folder, "grain", *(f'{{"id": {n}, "kind": "stone"}}' for n in range(4)))
    send(folder, "grain", '{"id": 5, "kind": "rye"}')
    dead(folder, "grind", 5)
    send(folder, "coal", "lump")
    dead(folder, "burn", 1)
    groups = data(folder, "dlq", "ls", "--json")
    assert [(g["consumer"], g["error"], g["count"]) for g in groups] == [
        ("grind", "ValueError: a stone is no grain at all", 4),
        ("grind", "LookupError: no rye today", 1),
        ("burn", "OSError: no fire", 1),
    ]
    assert groups[0]["first_seen"] <= groups[0]["last_seen"]
    assert len(groups[0]["ids"]) == 3
    assert set(groups[0]["ids"]) < set(stones)
    shown = run(folder, "dlq", "ls", "grind").stdout
    assert "a stone is no grain" in shown
    assert groups[0]["ids"][0][:8] in shown
    assert groups[0]["ids"][0] not in shown
    assert "fire" not in shown
    assert len(letters(folder, "grind", "--error", "ValueError")) == 4
    assert len(letters(folder, "grind", "--error", "ValueError", "--limit", "3")) == 3
    assert letters(folder, "grind", "--error", "KeyError") == []
    each = letters(folder, "grind")
    assert [x["dead_at"] for x in each] == sorted(x["dead_at"] for x in each)


def test_a_group_is_replayed_and_the_rest_waits(folder: Path) -> None:
    send(folder, "grain", '{"id": 11, "kind": "stone"}', '{"id": 12, "kind": "rye"}')
    dead(folder, "grind", 2)
    (folder / "rye").touch()
    assert "sent 1 again to grain" in run(folder, "dlq", "replay", "grind", "--error", "LookupError: no rye").stderr
    wait_for(lambda: any(row["id"] == 12 for row in rows(folder, "flour")))
    assert [x["payload"] for x in letters(folder, "grind")] == ['{"id": 11, "kind": "stone"}']
    refused = run(folder, "dlq", "replay", "grind", "--error", "KeyError", expect=1)
    assert 'no dead letter of "grind" has an error that begins with "KeyError"' in refused.stderr


@pytest.mark.parametrize(("source", "consumer"), [("grain", "grind"), ("coal", "burn")])
def test_every_replay_is_recorded(folder: Path, source: str, consumer: str) -> None:
    (id,) = send(folder, source, '{"id": 21, "kind": "stone"}')
    for number in range(3):
        wait_for(
            lambda n=number: [x["headers"].get("buildflow-replays", "0") for x in letters(folder, consumer)] == [str(n)]
        )
        shown = data(folder, "dlq", "show", consumer, id, "--json")
        assert [r["number"] for r in shown["replays"]] == list(range(1, number + 1))
        if number < 2:
            assert data(folder, "dlq", "replay", consumer, id[:8], "--json") == [{"id": id}]
    first = shown["replays"][0]
    assert "@" in first["by"]
    assert first["replayed_at"] < shown["replays"][1]["replayed_at"]
    assert first["error"] == shown["error"]
    assert first["edited"] is None
    assert f"by {first['by']}; it had died of" in run(folder, "dlq", "show", consumer, id[:8]).stdout
    listed = data(folder, "dlq", "ls", consumer, "--replayed", "--json")
    assert [(r["consumer"], r["number"]) for r in listed if r["id"] == id] == [(consumer, 1), (consumer, 2)]
    assert first["by"] in run(folder, "dlq", "ls", consumer, "--replayed").stdout


def test_an_edited_payload_is_sent_under_the_same_id(folder: Path) -> None:
    (id,) = send(folder, "grain", '{"id":31,"kind":"stone","x":[1]}')
    dead(folder, "grind", 1)
    tools = editor(folder, "cp $1 seen; sed -i s/stone/wheat/ $1")
    assert "sent 1 again" in run(folder, "dlq", "replay", "grind", id, "--edit", **tools).stderr
    wait_for(lambda: {"id": 31, "kind": "wheat"} in rows(folder, "flour"))
    assert (folder / "seen").read_text() == '{\n  "id": 31,\n  "kind": "stone",\n  "x": [\n    1\n  ]\n}\n'
    (record,) = [r for r in data(folder, "dlq", "ls", "--replayed", "--json") if r["id"] == id]
    assert record["edited"]["before"]["payload"] == '{"id":31,"kind":"stone","x":[1]}'
    assert json.loads(record["edited"]["after"]["payload"])["kind"] == "wheat"
    assert not list(folder.glob("dead-letter-*"))


@pytest.mark.parametrize("script", ["true", ": > $1", "touch $1"])
def test_a_payload_that_is_left_or_emptied_is_not_sent(folder: Path, script: str) -> None:
    (id,) = send(folder, "grain", '{"id":41,"kind":"stone"}')
    dead(folder, "grind", 1)
    said = run(folder, "dlq", "replay", "grind", id, "--edit", **editor(folder, script)).stderr
    assert "nothing was sent" in said
    assert letters(folder, "grind")[0]["headers"] == {}
    assert not list(folder.glob("dead-letter-*"))


def test_an_edit_that_is_no_json_any_more_is_refused_and_kept(folder: Path) -> None:
    (id,) = send(folder, "grain", '{"id":51,"kind":"stone"}')
    dead(folder, "grind", 1)
    tools = editor(folder, "echo '{broken' > $1")
    refused = run(folder, "dlq", "replay", "grind", id, "--edit", expect=1, **tools)
    assert "it is no JSON any more" in refused.stderr
    (kept,) = folder.glob("dead-letter-*")
    assert str(kept) in refused.stderr
    assert kept.read_text() == "{broken\n"
    assert kept.stat().st_mode & 0o077 == 0
    kept.unlink()
    assert len(letters(folder, "grind")) == 1
    again = editor(folder, """if grep -q broken $1; then echo '{"id":52}' > $1; else echo '{broken' > $1; fi""")
    sent = run(folder, "dlq", "replay", "grind", id, "--edit", input="y\n", **again)
    assert "Edit it again?" in sent.stderr
    assert "sent 1 again" in sent.stderr
    wait_for(lambda: {"id": 52, "kind": "wheat"} in rows(folder, "flour"))
    assert not list(folder.glob("dead-letter-*"))


def test_an_edit_is_checked_against_what_its_source_carries(folder: Path) -> None:
    (id,) = send(folder, "typed", '{"id": 1}')
    dead(folder, "stow", 1)
    tools = editor(folder, """echo '{"id": "many"}' > $1""")
    refused = run(folder, "dlq", "replay", "stow", id, "--edit", expect=1, **tools)
    assert '"typed" carries Sack: "id"' in refused.stderr
    next(folder.glob("dead-letter-*")).unlink()
    run(folder, "dlq", "replay", "stow", id, "--edit", **editor(folder, """echo '{"id": 10}' > $1"""))
    wait_for(lambda: not letters(folder, "stow"))


@pytest.mark.parametrize(
    ("tools", "words"),
    [({"EDITOR": "no-such-editor", "VISUAL": ""}, "no-such-editor cannot be started"),
     ({"EDITOR": "false", "VISUAL": ""}, "false ended with 1; nothing was sent")],
)  # fmt: skip
def test_an_editor_that_fails_sends_nothing(folder: Path, tools: dict[str, str], words: str) -> None:
    (id,) = send(folder, "grain", '{"id":61,"kind":"stone"}')
    dead(folder, "grind", 1)
    assert words in run(folder, "dlq", "replay", "grind", id, "--edit", expect=1, **tools).stderr
    assert len(letters(folder, "grind")) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dlq", "replay", "grind", "--edit"], "give its id"),
        (["dlq", "replay", "grind", "a", "b", "--edit"], "give its id"),
        (["dlq", "replay", "grind", "a", "--error", "x"], "leave one out"),
        (["dlq", "drop", "grind", "a", "--error", "x", "--yes"], "leave one out"),
        (["dlq", "replay", "grind", "--rate", "fast"], "no rate; write 100/s"),
    ],
)
def test_wrong_usage_ends_with_2(mill: Running, arguments: list[str], words: str) -> None:
    assert words in " ".join(run(mill.folder, *arguments, expect=2).stderr.replace("│", "").split())


def test_a_rate_is_kept_and_an_interruption_says_how_far_it_came(folder: Path) -> None:
    ids = send(folder, "coal", *(str(n) for n in range(60)))
    dead(folder, "burn", 60)
    (folder / "fire").touch()
    process = subprocess.Popen(
        [*PLATFORM, "dlq", "replay", "burn", "--rate", "4/s", "--json"], cwd=folder, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    started = time.monotonic()
    wait_for(lambda: 60 - len(letters(folder, "burn")) >= 5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    took = time.monotonic() - started
    assert process.returncode == 130
    left = letters(folder, "burn")
    assert f"interrupted: sent {60 - len(left)} again to coal; the others wait" in said
    assert 60 - len(left) <= took * 4 + 2
    replayed = {r["id"] for r in data(folder, "dlq", "ls", "burn", "--replayed", "--json")}
    assert {x["id"] for x in left} == set(ids) - replayed


def test_drop_asks_and_keeps_what_is_declined(folder: Path) -> None:
    ids = send(folder, "grain", *(f'{{"id": {n}, "kind": "stone"}}' for n in range(3)), "{no json")
    dead(folder, "grind", 4)
    for answer in ("n\n", ""):
        declined = run(folder, "dlq", "drop", "grind", input=answer, expect=4)
        assert "Drop 4 dead letters of grind? They cannot be brought back" in declined.stderr
    assert len(letters(folder, "grind")) == 4
    assert "dropped 1 dead letter of grind" in run(folder, "dlq", "drop", "grind", ids[0][:8], input="y\n").stderr
    assert data(folder, "dlq", "drop", "grind", "--error", "Undecodable", "--yes", "--json") == {"dropped": 1}
    assert {x["id"] for x in letters(folder, "grind")} == set(ids[1:3])
    run(folder, "dlq", "drop", "grind", "--error", "Undecodable", "--yes", expect=1)
    assert data(folder, "dlq", "drop", "grind", "--yes", "--json") == {"dropped": 2}
    assert data(folder, "dlq", "drop", "grind", "--json") == {"dropped": 0}, "nothing to ask about"


def test_rows_of_a_table_stay_as_history(folder: Path) -> None:
    before = {row["id"] for row in rows(folder, "graves")}
    ids = send(folder, "coal", "one", "two", "three")
    dead(folder, "burn", 3)
    assert 'Rows of "graves" stay' in run(folder, "dlq", "drop", "burn", ids[0], input="y\n").stderr
    (folder / "fire").touch()
    run(folder, "dlq", "replay", "burn", ids[1])
    assert [x["id"] for x in letters(folder, "burn")] == [ids[2]]
    assert {row["id"] for row in rows(folder, "graves")} - before == set(ids)
    assert "no dead letter begins with" in run(folder, "dlq", "show", "burn", ids[0], expect=1).stderr


def test_export_keeps_every_byte(folder: Path) -> None:
    ids = send(folder, "grain", '{"id": 1, "kind": "stone", "é": 1}')
    subprocess.run(
        [*PLATFORM, "send", "coal"],
        cwd=folder,
        env=environment(),
        input=b"\xff\x00lump",
        check=True,
        capture_output=True,
    )
    dead(folder, "grind", 1)
    dead(folder, "burn", 1)
    lines = [json.loads(line) for line in run(folder, "dlq", "export").stdout.splitlines()]
    assert [(x["consumer"], x["payload_encoding"]) for x in lines] == [("grind", "utf-8"), ("burn", "base64")]
    assert lines[0]["payload"] == '{"id": 1, "kind": "stone", "é": 1}'
    assert lines[0]["traceback"].rstrip().endswith("at all")
    assert base64.b64decode(lines[1]["payload"]) == b"\xff\x00lump"
    said = run(folder, "dlq", "export", "grind", ids[0][:9], "--out", "out.jsonl").stderr
    assert "exported 1 dead letter to out.jsonl" in said
    assert [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()] == lines[:1]
    assert os.listdir(folder).count("out.jsonl.part") == 0


def test_an_id_without_its_consumer_is_told_apart_from_a_name(folder: Path) -> None:
    (id,) = send(folder, "grain", '{"id": 1, "kind": "stone"}')
    dead(folder, "grind", 1)
    refused = run(folder, "dlq", "replay", id[:8], expect=1)
    assert f'there is no consumer "{id[:8]}"' in refused.stderr
    assert f"a dead letter's id stands behind its consumer: grind {id[:8]}" in refused.stderr
    other = "0" if id[0] != "0" else "1"
    assert "grind, stow" in run(folder, "dlq", "replay", other * 8, expect=1).stderr, "no letter's id: the consumers"


def test_a_stack_on_aws_that_was_never_applied_has_no_letters_and_needs_no_credentials(tmp_path: Path) -> None:
    yaml = """
    project: far
    stacks: {far: {provider: aws, aws: {region: eu-central-1}}}
    default_stack: far
    primitives: {grain: {type: queue}}
    consumers: {stow: {source: grain, handler: "mill:stow"}}
    """
    far = project(tmp_path, yaml, mill=MODULE)
    none = {
        "AWS_PROFILE": "",
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    listed = run(far, "dlq", "ls", "--json", **none)
    assert listed.stdout == "[]\n"
    assert 'stack "far" has changes that were not applied: grain; platform apply' in listed.stderr
