"""`file` on the local stack: what is committed appears in complete files, once, whoever dies meanwhile."""

import csv
import errno
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from pydantic import ValidationError

from buildflow.errors import InvalidRow, ResourceFailed
from buildflow.ir.columns import Column
from buildflow.ir.graph import Resource, ResourceGraph
from buildflow.primitives.base import Action, Entry, Sink
from buildflow.primitives.bucket import BucketSpec
from buildflow.primitives.bucket.local import DRIVER as BUCKETS
from buildflow.primitives.file import FileSpec
from buildflow.primitives.file.formats import RowFormat
from buildflow.primitives.file.journal import Journals
from buildflow.primitives.file.local import DRIVER
from buildflow.primitives.file.sink import FileSink, FolderPlace
from buildflow.primitives.file_change_stream.local import DRIVER as STREAMS
from buildflow.providers.local import LocalSession
from tests.harness import ROOT, wait_for

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
COLUMNS = (
    Column(name="id", kind="integer"),
    Column(name="name", kind="string", nullable=True),
)


def file(key: str = "archive", columns: tuple[Column, ...] = (), **fields: Any) -> Resource:
    fields = {"path": "exports/{date}/orders.jsonl", **fields}
    if columns:
        fields["columns"] = "app:Order"
    spec = FileSpec(type="file", **fields)
    return Resource(
        key=key,
        type="file",
        provider="local",
        name=DRIVER.name(key, spec, "shop", "local"),
        id=DRIVER.identify(_with(spec.model_dump(mode="json")), None),
        label=DRIVER.label,
        spec=spec.model_dump(mode="json"),
        columns=columns,
    )


def _with(spec: dict[str, Any]) -> Resource:
    return Resource(key="", type="file", provider="local", name="", id="", label="", spec=spec)


def bucket(key: str = "images") -> Resource:
    spec = BucketSpec(type="bucket").model_dump(mode="json")
    return Resource(key=key, type="bucket", provider="local", name=f"b-{key}", id="", label="LocalBucket", spec=spec)


def stack(root: Path, *resources: Resource) -> LocalSession:
    graph = ResourceGraph(project="shop", stack="local", resources=resources)
    return LocalSession(graph, root, root / ".buildflow/local", "shop-local")


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Exports:
    """Sinks whose time passes when the test says so."""

    root: Path
    clock: Clock = field(default_factory=Clock)
    now: datetime = NOON

    def sink(
        self,
        path: str = "exports/orders.jsonl",
        format: Any = "jsonl",
        columns: tuple[Column, ...] = (),
        size: int = 64_000_000,
        every: float = 3600.0,
    ) -> FileSink:
        rows = RowFormat("archive", format, columns)
        place = FolderPlace(self.root)
        return FileSink(
            "archive", path, rows, self.journals, place, size=size, every=every, clock=self.clock, now=lambda: self.now
        )

    @property
    def journals(self) -> Journals:
        return Journals(self.root / ".buildflow/local/files/archive")

    def files(self, folder: str = "exports") -> list[Path]:
        """Everything in the folder that is no folder, hidden ones included."""
        return sorted(path for path in (self.root / folder).rglob("*") if path.is_file())

    def rows(self) -> list[Any]:
        return [json.loads(line) for path in self.files() for line in path.read_text("utf-8").split("\n") if line]


@pytest.fixture
def exports(tmp_path: Path) -> Exports:
    return Exports(tmp_path)


def put(sink: Sink, *rows: Any, writer: str = "export") -> None:
    sink.commit(writer, [Entry("1", rows)])


# -- the declaration -------------------------------------------------------------------------------------------


def test_it_is_called_after_its_path() -> None:
    assert file().id == "file://exports/{date}/orders.jsonl"
    assert file(bucket="images").id == "file://images:exports/{date}/orders.jsonl"
    assert DRIVER.name("archive", FileSpec(type="file", path="x"), "shop", "local") == "shop-local-archive"
    assert DRIVER.check_name("anything") == ""


@pytest.mark.parametrize("path", ["/etc/rows.csv", "../rows.csv", "a/../../rows.csv", "a//b", "a\\b", ".", "a/{day}"])
def test_a_path_that_would_leave_the_project_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match=r"is no path below its folder|nothing is put in for"):
        FileSpec(type="file", path=path)


# -- provision -------------------------------------------------------------------------------------------------


def test_it_is_created_found_and_deleted_with_its_own_files_only(tmp_path: Path) -> None:
    resource, session = file(path="exports/{date}/{consumer}.csv", format="csv", columns=COLUMNS), stack(tmp_path)
    assert not DRIVER.exists(resource, session)
    assert DRIVER.create(resource, session) == {"path": str(tmp_path / "exports")}
    assert DRIVER.create(resource, session), "what is there already is adopted"
    assert DRIVER.exists(resource, session)
    assert DRIVER.content(resource, session) == ""

    sink = DRIVER.sink(resource, session)
    put(sink, {"id": 1})
    assert DRIVER.content(resource, session).startswith("1 file, "), "rows that are in no file yet count"
    sink.close()
    put(sink, {"id": 2, "name": "x" * 2000})
    sink.close()
    assert re.fullmatch(r"2 files, 2\.\d KB", DRIVER.content(resource, session))

    others = tmp_path / "exports/2026-01-02/export.csv"
    others.parent.mkdir()
    others.write_text("mine")
    DRIVER.delete(resource, session)
    assert not DRIVER.exists(resource, session)
    assert [p for p in (tmp_path / "exports").rglob("*") if p.is_file()] == [others]
    others.unlink()
    DRIVER.create(resource, session)
    others.parent.rmdir()
    DRIVER.delete(resource, session)
    assert not (tmp_path / "exports").exists()
    DRIVER.delete(resource, session)


def test_a_file_at_the_root_of_the_project_leaves_everything_else_alone(tmp_path: Path) -> None:
    resource, session = file(path="{date}.jsonl"), stack(tmp_path)
    (tmp_path / "empty").mkdir()
    DRIVER.create(resource, session)
    sink = DRIVER.sink(resource, session)
    put(sink, 1)
    sink.close()
    assert DRIVER.content(resource, session) == "1 file, 2 bytes"
    DRIVER.delete(resource, session)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".buildflow", "empty"]


def test_changes_are_told_and_lose_nothing(tmp_path: Path) -> None:
    session = stack(tmp_path)
    old = file(path="a/{id}.csv", format="csv", columns=COLUMNS)
    new = file(path="b/{id}.parquet", format="parquet", columns=COLUMNS[:1], rotate={"size": "1MB", "every": "90s"})
    change = DRIVER.compare(old, new, session)
    assert (change.action, change.loses_data) == (Action.UPDATE, "")
    assert change.fields[:2] == (
        "path: a/{id}.csv -> b/{id}.parquet (files that are there stay as they are)",
        "format: csv -> parquet (files that are there stay as they are)",
    )
    assert change.fields[-2:] == ("rotate.size: 64.0 MB -> 1.0 MB", "rotate.every: 1m -> 1m30s")
    assert any("name" in words for words in change.fields[2:-2])
    assert DRIVER.compare(old, old, session).action is Action.NONE

    DRIVER.create(old, session)
    sink = DRIVER.sink(old, session)
    put(sink, {"id": 1, "name": "x"})
    DRIVER.update(old, new, session)
    sink.close()
    sink = DRIVER.sink(new, session)
    put(sink, {"id": 2})
    sink.close()
    (before,), (after,) = (list(tmp_path.glob(f"{folder}/*")) for folder in "ab")
    assert before.read_text() == "id,name\n1,x\n", "what was committed goes where and how it was to go then"
    assert pyarrow.parquet.read_table(after).to_pylist() == [{"id": 2}]


# -- formats ---------------------------------------------------------------------------------------------------

PLACE = Column(
    name="place",
    kind="record",
    nullable=True,
    fields=(
        Column(name="at", kind="timestamp"),
        Column(name="raw", kind="bytes"),
        Column(name="more", kind="json", nullable=True),
        Column(name="deep", kind="record", repeated=True, fields=(Column(name="x", kind="float"),)),
    ),
)
RICH = (
    Column(name="n", kind="integer"),
    Column(name="f", kind="float", nullable=True),
    Column(name="yes", kind="boolean", nullable=True),
    Column(name="t", kind="string", nullable=True),
    Column(name="raw", kind="bytes", nullable=True),
    Column(name="at", kind="timestamp", nullable=True),
    Column(name="day", kind="date", nullable=True),
    Column(name="hour", kind="time", nullable=True),
    Column(name="any", kind="json", nullable=True),
    Column(name="tags", kind="string", repeated=True),
    Column(name="blobs", kind="bytes", repeated=True),
    Column(name='od"d, näme', kind="string", has_default=True, default="d"),
    PLACE,
)
TOKYO = timezone(timedelta(hours=9))
ROWS = [
    {
        "n": -(2**63),
        "f": 0.1,
        "yes": True,
        "t": 'a "q", ü\r\n\u2028\x00,;\t',
        "raw": b"\x00\xff",
        "at": datetime(2026, 1, 2, 3, 4, 5, 678901, TOKYO),
        "day": date(1, 1, 1),
        "hour": time(23, 59, 59, 1),
        "any": {"k": [1, None, "é"]},
        "tags": ["a,b", ""],
        "blobs": [b"\x01", b""],
        'od"d, näme': "x",
        "place": {"at": NOON, "raw": b"\xfe", "more": [1], "deep": [{"x": 1.5}, {"x": 2.0}]},
    },
    {"n": 1, "t": "", "tags": [], "blobs": []},
    {"n": 2**63 - 1, "f": math.inf, "day": date(9999, 12, 31), "at": datetime.max, "tags": (), "blobs": []},
]
JSON_ROWS = [
    {
        "n": -(2**63),
        "f": 0.1,
        "yes": True,
        "t": ROWS[0]["t"],
        "raw": "AP8=",
        "at": "2026-01-01T18:04:05.678901+00:00",
        "day": "0001-01-01",
        "hour": "23:59:59.000001",
        "any": {"k": [1, None, "é"]},
        "tags": ["a,b", ""],
        "blobs": ["AQ==", ""],
        'od"d, näme': "x",
        "place": {
            "at": "2026-01-02T12:00:00+00:00",
            "raw": "/g==",
            "more": [1],
            "deep": [{"x": 1.5}, {"x": 2.0}],
        },
    },
    {
        **dict.fromkeys([c.name for c in RICH]),
        **{"n": 1, "t": "", "tags": [], "blobs": [], 'od"d, näme': "d"},
    },
    {
        **dict.fromkeys([c.name for c in RICH]),
        **{"n": 2**63 - 1, "f": "inf", "day": "9999-12-31", "at": "9999-12-31T23:59:59.999999+00:00"},
        **{"tags": [], "blobs": [], 'od"d, näme': "d"},
    },
]


def test_json_lines_are_what_the_columns_say(exports: Exports) -> None:
    sink = exports.sink(columns=RICH)
    put(sink, *ROWS)
    sink.close()
    assert exports.rows() == JSON_ROWS
    assert list(exports.rows()[0]) == [c.name for c in RICH]


def test_csv_has_a_header_and_quotes_what_must_be(exports: Exports) -> None:
    sink = exports.sink(path="exports/orders.csv", format="csv", columns=RICH)
    put(sink, *ROWS)
    sink.close()
    (path,) = exports.files()
    with open(path, newline="") as lines:
        first, second, third = csv.DictReader(lines)
    assert list(first) == [c.name for c in RICH]
    expected = JSON_ROWS[0]
    assert {k: first[k] for k in ("t", "raw", "at", "day", "hour", "yes", 'od"d, näme')} == {
        **{k: expected[k] for k in ("t", "raw", "at", "day", "hour", 'od"d, näme')},
        "yes": "true",
    }
    assert {k: json.loads(first[k]) for k in ("n", "f", "any", "tags", "blobs", "place")} == {
        k: expected[k] for k in ("n", "f", "any", "tags", "blobs", "place")
    }
    assert (second["f"], second["t"], second["tags"], second["place"]) == ("", "", "[]", "")
    assert third["f"] == "inf"
    assert path.read_bytes().split(b"\n")[-3].startswith(b'1,,,"",'), "nothing and empty text differ"


def test_parquet_has_the_columns_own_types(exports: Exports) -> None:
    sink = exports.sink(path="exports/orders.parquet", format="parquet", columns=RICH)
    put(sink, *ROWS)
    sink.close()
    (path,) = exports.files()
    first, second, third = pyarrow.parquet.read_table(path).to_pylist()
    assert first == {
        **ROWS[0],
        "at": ROWS[0]["at"],
        "any": '{"k": [1, null, "é"]}',
        "place": {**ROWS[0]["place"], "more": "[1]"},
    }
    assert (second["f"], second["t"], second["tags"], second["place"]) == (None, "", [], None)
    assert (third["f"], third["n"]) == (math.inf, 2**63 - 1)


def test_rows_without_columns_are_json_lines_as_they_are(exports: Exports) -> None:
    rows = [{"a": 1, "at": NOON}, [1, "ü"], "text\n", 7, None, {"#": 1}]
    sink = exports.sink()
    put(sink, *rows)
    sink.close()
    assert exports.rows() == [{"a": 1, "at": "2026-01-02T12:00:00Z"}, *rows[1:]]


def test_csv_without_columns_has_every_name_that_a_row_has(exports: Exports) -> None:
    sink = exports.sink(path="exports/orders.csv", format="csv")
    put(sink, {"b": "007", "a": None}, {"c": {"x": [1, True]}, "": 1.5, 'q"\x00': "2024-01-01 5:00"})
    put(sink, {"A": 'a "q",\r\n'})
    sink.close()
    (path,) = exports.files()
    with open(path, newline="") as lines:
        assert list(csv.reader(lines)) == [
            ["b", "a", "c", "", 'q"\x00', "A"],
            ["007", "", "", "", "", ""],
            ["", "", '{"x":[1,true]}', "1.5", "2024-01-01 5:00", ""],
            ["", "", "", "", "", 'a "q",\r\n'],
        ]


@pytest.mark.parametrize(
    ("format", "columns", "row", "why"),
    [
        ("jsonl", COLUMNS, {"id": "x"}, 'column "id" holds integers, this row has text'),
        ("parquet", COLUMNS, {"id": 1, "nam": "x"}, 'did you mean "name"'),
        ("csv", COLUMNS, {"name": "x"}, 'column "id" is required'),
        ("csv", (), "text", "a line of CSV is a mapping or a record, this is text"),
        ("jsonl", (), b"raw", "JSON holds no bytes"),
        ("jsonl", (), {"a": object()}, "cannot be sent as JSON"),
        ("jsonl", (), "\ud800", "no Unicode character"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_and_nothing_of_its_group_is_written(
    exports: Exports, format: str, columns: tuple[Column, ...], row: Any, why: str
) -> None:
    sink = exports.sink(path=f"exports/x.{format}", format=format, columns=columns)
    with pytest.raises(InvalidRow, match=why):
        sink.check(row)
    with pytest.raises(InvalidRow, match=why):
        put(sink, {"id": 1}, row)
    sink.check({"id": 1})
    sink.close()
    assert exports.files() == []


def test_a_row_of_any_size_is_written(exports: Exports) -> None:
    """DuckDB's own limit of a line is 16 MB."""
    sink = exports.sink(path="exports/x.parquet", format="parquet", columns=COLUMNS)
    put(sink, {"id": 1, "name": "ü" * 12_000_000})
    sink.close()
    assert len(pyarrow.parquet.read_table(exports.files()[0]).to_pylist()[0]["name"]) == 12_000_000


# -- rotation --------------------------------------------------------------------------------------------------


def test_a_file_appears_when_it_is_old_enough_and_is_named_by_its_first_row(exports: Exports) -> None:
    sink = exports.sink(path="exports/{date}/{hour}/orders.jsonl", every=60)
    put(sink, 1)
    sink.rotate()
    exports.clock.seconds, exports.now = 59.0, NOON + timedelta(days=1)
    put(sink, 2)
    sink.rotate()
    assert exports.files() == []
    exports.clock.seconds = 60.0
    sink.rotate()  # or the sink's own thread does it
    (path,) = wait_for(lambda: list(exports.root.glob("exports/*/*/*.jsonl")))
    assert re.fullmatch(
        r"exports/2026-01-02/12/orders-20260102T120000-\w{8}\.jsonl", str(path.relative_to(exports.root))
    )
    assert exports.rows() == [1, 2]
    put(sink, 3)
    sink.close()
    assert exports.files()[-1].parent == exports.root / "exports/2026-01-03/12"
    assert exports.journals.paths() == []


def test_a_file_appears_by_itself_when_no_more_rows_come(tmp_path: Path) -> None:
    resource, session = file(path="exports/orders.jsonl", rotate={"every": "200ms"}), stack(tmp_path)
    sink = DRIVER.sink(resource, session)
    put(sink, 1)
    assert wait_for(lambda: list(tmp_path.glob("exports/*.jsonl")))
    sink.close()


def test_a_file_that_is_full_is_closed_before_it_grows_larger(exports: Exports) -> None:
    sink = exports.sink(size=20)
    for row in ("12345678", "2345678", "3", "45678901234567890123456", "5"):
        put(sink, row)
    sink.close()
    sizes = sorted(path.stat().st_size for path in exports.files())
    assert sizes == [4, 11, 14, 26], "at most 20 bytes, unless one commit has more"
    assert sorted(exports.rows()) == sorted(["12345678", "2345678", "3", "45678901234567890123456", "5"])


def test_consumers_have_files_of_their_own_where_the_path_names_them(exports: Exports) -> None:
    sink = exports.sink(path="exports/{consumer}/{id}.jsonl")
    for writer in ("a", "POST /orders", "a"):
        put(sink, writer, writer=writer)
    sink.close()
    assert [path.parent.name for path in exports.files()] == ["POST-orders", "a"]
    shared = exports.sink(path="shared/{id}.jsonl")
    for writer in ("a", "b"):
        put(shared, writer, writer=writer)
    shared.close()
    assert len(exports.files("shared")) == 1


def test_nothing_is_made_of_nothing(exports: Exports) -> None:
    sink = exports.sink()
    sink.commit("export", [])
    sink.commit("export", [Entry("1", [])])
    sink.close()
    assert exports.files() == []
    assert exports.journals.paths() == []


# -- in a bucket -----------------------------------------------------------------------------------------------


def test_files_in_a_bucket_are_objects_whose_streams_are_told(tmp_path: Path) -> None:
    images, exported = bucket(), file(path="exports/{id}.parquet", format="parquet", columns=COLUMNS, bucket="images")
    stream = Resource(
        key="uploads", type="file_change_stream", provider="local", name="uploads", id="", label="",
        spec={"bucket": "images", "events": ["created"]}, references={"bucket": "images"},
    )  # fmt: skip
    session = stack(tmp_path, images, exported, stream)
    try:
        for driver, resource in ((BUCKETS, images), (STREAMS, stream), (DRIVER, exported)):
            outputs = driver.create(resource, session)
        assert outputs == {"path": str(tmp_path / ".buildflow/local/buckets/b-images/exports")}
        sink = DRIVER.sink(exported, session)
        put(sink, {"id": 1})
        sink.close()
        (found,) = BUCKETS.handle(images, session).list()
        (event,) = STREAMS.source(stream, session).lease(10)
        assert found.path in event.body.decode()
        assert DRIVER.content(exported, session) == "", "the bucket's content counts it"

        other = DRIVER.sink(exported, session)
        put(other, {"id": 2})
        with pytest.raises(ResourceFailed, match="could not be put into the bucket"):
            DRIVER.delete(exported, session)
        other.close()
        DRIVER.delete(exported, session)
        assert len(list(BUCKETS.handle(images, session).list("exports/"))) == 2, "a bucket's objects are its own"
    finally:
        session.close(wait=5)


# -- crashes ---------------------------------------------------------------------------------------------------


def crashed(exports: Exports, *groups: list[Any], **fields: Any) -> Path:
    """A journal as a process leaves it that dies after these commits."""
    journal = exports.journals.begin("20260102T120000-00000000", {"name": "exports/x.jsonl", **fields})
    journal.about = {"format": "jsonl", "columns": [], **journal.about}
    for group in groups:
        journal.append(RowFormat("archive", "jsonl", ()).lines(group))
    journal.close()
    return journal.path


def test_a_commit_that_was_torn_anywhere_is_cut_off(exports: Exports) -> None:
    path = crashed(exports, [1, 2], [3], [4, 5, 6])
    whole = path.read_bytes()
    ends = [len(crashed(Exports(exports.root / str(n)), *[[1, 2], [3], [4, 5, 6]][:n]).read_bytes()) for n in (1, 2)]
    for cut in range(len(whole)):
        for tail in (b"", b"\0" * (len(whole) - cut)):  # a file system may have grown the file before its data
            path.write_bytes(whole[:cut] + tail)
            sink = exports.sink()
            sink.rotate()
            expected = [1, 2] if cut >= ends[0] else []
            expected += [3] if cut >= ends[1] else []
            assert exports.rows() == expected, (cut, tail[:1])
            assert exports.journals.paths() == []
            for done in exports.files():
                done.unlink()


def test_a_file_that_appeared_before_its_journal_was_removed_is_not_made_again(
    exports: Exports, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = exports.sink(format="csv", columns=COLUMNS, path="exports/x.csv")
    put(sink, {"id": 1})

    def fail(*_: Any) -> None:
        raise OSError("died here")

    with monkeypatch.context() as patch:
        patch.setattr(Journals, "remove", fail)
        sink.close()
    assert len(exports.files()) == len(exports.journals.paths()) == 1
    exports.sink().rotate()
    assert len(exports.files()) == 1
    assert exports.journals.paths() == []


def test_a_conversion_that_died_half_way_is_made_anew(exports: Exports) -> None:
    crashed(exports, [1, 2])
    part = exports.root / "exports/.20260102T120000-00000000.part"
    part.parent.mkdir()
    part.write_text("half of")
    exports.sink().rotate()
    assert [path.name for path in exports.files()] == ["x.jsonl"]
    assert exports.rows() == [1, 2]


WRITER = """
import random, sys
from pathlib import Path
from tests.drivers.test_file_local import COLUMNS, Exports, Entry

format, name, seed, count = sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
sink = Exports(Path(sys.argv[1])).sink(f"exports/orders.{format}", format, COLUMNS, size=20_000)
rng = random.Random(seed)
for group in range(count):
    rows = [{"id": group, "name": f"{name}/{group}/{row}/" + "x" * rng.randrange(100)} for row in range(5)]
    sink.commit("export", [Entry(str(group), rows)])
    print(group, flush=True)
sink.close()
print("closed", flush=True)
"""


def writer(root: Path, format: str, name: str, seed: int = 0, count: int = 1_000_000) -> subprocess.Popen[str]:
    script = [sys.executable, "-c", textwrap.dedent(WRITER), str(root), format, name, str(seed), str(count)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/platform:{ROOT}"}
    return subprocess.Popen(script, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def published(root: Path, format: str) -> Counter[tuple[str, int]]:
    """How often each row of (writer, group) appeared."""
    found: Counter[tuple[str, int]] = Counter()
    for path in root.glob(f"exports/*.{format}"):
        if format == "parquet":
            names = pyarrow.parquet.read_table(path).column("name").to_pylist()
        elif format == "csv":
            with open(path, newline="") as lines:
                names = [row["name"] for row in csv.DictReader(lines)]
        else:
            names = [json.loads(line)["name"] for line in path.read_text("utf-8").split("\n") if line]
        found.update((name.split("/")[0], int(name.split("/")[1])) for name in names)
    return found


@pytest.mark.parametrize("format", ["jsonl", "csv", "parquet"])
def test_what_was_committed_is_published_exactly_once_after_kills(exports: Exports, format: str) -> None:
    rng = random.Random(format)
    committed: set[tuple[str, int]] = set()
    for round in range(6):
        process = writer(exports.root, format, str(round), seed=round)
        assert process.stdout is not None
        for _ in range(rng.randrange(1, 150)):
            committed.add((str(round), int(process.stdout.readline())))
        process.send_signal(signal.SIGKILL)
        committed |= {(str(round), int(line)) for line in process.stdout if line.endswith("\n")}
        process.wait()
        process.stdout.close()
    last = exports.sink(f"exports/orders.{format}", format, COLUMNS)
    last.rotate()
    found = published(exports.root, format)
    assert set(found.values()) == {5}, "groups are whole, and there once"
    assert committed <= set(found)
    assert len(set(found) - committed) <= 6, "each process died within one commit"
    assert exports.journals.paths() == []
    assert [path for path in exports.files() if path.suffix == ".part"] == []


def test_two_processes_write_at_once_and_readers_see_whole_files_only(exports: Exports) -> None:
    processes = [writer(exports.root, "parquet", name, count=300) for name in ("a", "b")]
    seen: Counter[str] = Counter()
    while any(process.poll() is None for process in processes):
        for path in exports.root.glob("exports/*.parquet"):
            rows = pyarrow.parquet.read_table(path).num_rows  # raises for half a file
            assert seen.setdefault(path.name, rows) == rows
    for process in processes:
        out, _ = process.communicate()
        assert out.endswith("closed\n")
    assert published(exports.root, "parquet") == Counter({(n, g): 5 for n in "ab" for g in range(300)})
    assert len(exports.files()) > 10


def test_a_living_process_publishes_what_a_dead_one_left(tmp_path: Path) -> None:
    exports = Exports(tmp_path)
    process = writer(tmp_path, "jsonl", "dead")
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    sink = DRIVER.sink(file(path="exports/orders.jsonl"), stack(tmp_path))
    sink.commit("export", [])  # as a process does when it starts
    assert wait_for(lambda: published(tmp_path, "jsonl")[("dead", 0)] == 5)
    sink.close()
    assert exports.journals.paths() == []


def test_a_forked_process_has_journals_of_its_own(exports: Exports) -> None:
    sink = exports.sink()
    put(sink, "parent 1")
    child = os.fork()
    if not child:
        try:
            put(sink, "child 1")
            sink.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert exports.rows() == ["child 1"], "the parent's journal is the parent's"
    put(sink, "parent 2")
    sink.close()
    assert sorted(exports.rows()) == ["child 1", "parent 1", "parent 2"]


def test_a_child_does_not_keep_the_journal_of_a_dead_parent(exports: Exports) -> None:
    script = """
    import os, signal, sys, time
    from pathlib import Path
    from tests.drivers.test_file_local import Exports, put
    sink = Exports(Path(sys.argv[1])).sink()
    put(sink, 1)
    if not os.fork():
        print("forked", flush=True)
        sys.stdin.read()
        os._exit(0)
    signal.pause()
    """
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/platform:{ROOT}"}
    parent = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), str(exports.root)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout is not None
    assert parent.stdin is not None
    parent.stdout.readline()
    parent.kill()
    parent.wait()
    exports.sink().rotate()
    assert exports.rows() == [1]
    parent.stdin.close()  # the child ends
    parent.stdout.close()


# -- failing disks ---------------------------------------------------------------------------------------------


def full_after(count: int) -> Callable[[int, Any], int]:
    """An `os.write` to a disk that has so many bytes left."""
    left, real = [count], os.write

    def write(file: int, data: Any) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = data[: left[0]]
        left[0] -= len(part)
        return real(file, part)

    return write


@pytest.mark.parametrize("room", [0, 1, 30, 200])
def test_a_full_disk_leaves_nothing_half_committed(
    exports: Exports, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    sink = exports.sink()
    put(sink, *range(100))
    with monkeypatch.context() as patch:
        patch.setattr("buildflow.primitives.file.journal.os.write", full_after(room))
        with pytest.raises(ResourceFailed, match='rows of file "archive" could not be written'):
            put(sink, *range(100, 300))
        with pytest.raises(ResourceFailed):
            put(sink, *range(100, 300))
    put(sink, *range(100, 300))
    sink.close()
    assert sorted(exports.rows()) == list(range(300))


def test_a_disk_that_fails_to_sync_has_committed_nothing(exports: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = exports.sink()
    put(sink, 1)

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("buildflow.primitives.file.journal.os.fsync", fail)
        with pytest.raises(ResourceFailed, match="Input/output error"):
            put(sink, 2)
    put(sink, 2)
    sink.close()
    assert sorted(exports.rows()) == [1, 2]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_that_fills_up_and_is_freed_loses_nothing(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Committed rows whose file finds no room wait in their journal, and those that were refused can come again."""
    exports = Exports(small_disk)
    sink = exports.sink()
    committed = []

    def fill() -> None:
        for group in range(1000):
            put(sink, {"group": group, "text": "x" * 2000})
            committed.append(group)

    with pytest.raises(ResourceFailed, match="No space left"):
        fill()
    assert committed
    sink.close()
    assert exports.files() == []
    assert "cannot be made yet, its rows are kept in" in caplog.text
    subprocess.run(["mount", "-o", "remount,size=2m", small_disk], check=True)
    sink = exports.sink()
    put(sink, {"group": len(committed)})
    sink.close()
    assert sorted(row["group"] for row in exports.rows()) == [*committed, len(committed)]


def test_a_place_that_cannot_be_written_keeps_rows_until_it_can(
    exports: Exports, caplog: pytest.LogCaptureFixture
) -> None:
    (exports.root / "exports").write_text("in the way")
    sink = exports.sink()
    put(sink, 1)
    sink.close()
    sink.rotate()
    assert caplog.text.count("cannot be made yet") == 1, "told once, not at every look"
    (exports.root / "exports").unlink()
    sink.rotate()
    assert exports.rows() == [1]


def test_a_deleted_journal_is_no_place_to_commit_to(exports: Exports) -> None:
    sink = exports.sink()
    put(sink, 1)
    (path,) = exports.journals.paths()
    path.unlink()
    with pytest.raises(ResourceFailed, match="was deleted"):
        put(sink, 2)
    put(sink, 2)
    sink.close()
    assert exports.rows() == [2]


# -- threads ---------------------------------------------------------------------------------------------------


def test_threads_may_commit_at_once(exports: Exports) -> None:
    sink = exports.sink(size=500)
    threads = [
        threading.Thread(target=lambda n=n: [put(sink, [n, i]) for i in range(50)])  # type: ignore[misc]
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.close()
    assert Counter(map(tuple, exports.rows())) == Counter((n, i) for n in range(4) for i in range(50))


def test_it_is_a_sink(exports: Exports) -> None:
    sink = exports.sink()
    asked = {*vars(Sink), *getattr(Sink, "__annotations__", {})}
    assert [name for name in asked if not name.startswith("_") and not hasattr(sink, name)] == []
    assert sink.guarantee == "at least once"
    assert exports.sink().close() is None  # one that was never used
