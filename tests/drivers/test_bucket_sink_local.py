"""A local bucket as a sink: an object a row, or an object an element or batch, named after what it came of."""

import csv
import io
import json
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
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
from buildflow.primitives.bucket.local import DRIVER
from buildflow.primitives.bucket.sink import BucketSink
from buildflow.primitives.file_change_stream.local import DRIVER as STREAMS
from buildflow.providers.local import LocalSession
from tests.harness import ROOT, environment

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
COLUMNS = (
    Column(name="id", kind="integer"),
    Column(name="tags", kind="string", repeated=True),
    Column(name="at", kind="timestamp", nullable=True),
)


@dataclass
class Order:
    id: int
    tags: list[str]
    at: datetime | None = None


def bucket(columns: tuple[Column, ...] = (), **fields: Any) -> Resource:
    if columns:
        fields["columns"] = "app:Order"
    spec = BucketSpec(type="bucket", **fields).model_dump(mode="json")
    return Resource(
        key="out", type="bucket", provider="local", name="out", id="", label="LocalBucket", spec=spec, columns=columns
    )


@dataclass
class Out:
    root: Path
    resource: Resource
    now: datetime = NOON

    def __post_init__(self) -> None:
        graph = ResourceGraph(project="shop", stack="local", resources=(self.resource,))
        self.session = LocalSession(graph, self.root, self.root / "local", "shop-local")
        DRIVER.create(self.resource, self.session)
        self.bucket = DRIVER.handle(self.resource, self.session)

    def sink(self) -> BucketSink:
        return BucketSink(self.resource, self.bucket, now=lambda: self.now)

    def objects(self) -> dict[str, bytes]:
        return {found.path: self.bucket.read(found.path) for found in self.bucket.list()}


def out(root: Path, columns: tuple[Column, ...] = (), **fields: Any) -> Out:
    return Out(root, bucket(columns, **fields))


# -- the declaration -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/etc/{id}", "../{id}", "{id}/../../x", "a//{id}", "a\\{id}", "{id}/", "{key}"])
def test_an_object_that_would_leave_the_bucket_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match=r"is no path below its folder|nothing is put in for"):
        BucketSpec(type="bucket", object=path)


def test_parquet_needs_columns() -> None:
    with pytest.raises(ValidationError, match="`columns` is missing"):
        BucketSpec(type="bucket", format="parquet")
    BucketSpec(type="bucket", format="parquet", columns={"id": "integer"})


def test_another_format_changes_nothing_that_is_there(tmp_path: Path) -> None:
    made = out(tmp_path)
    change = DRIVER.compare(made.resource, bucket(format="raw", object="{date}/{id}.txt"), made.session)
    assert (change.action, change.loses_data) == (Action.UPDATE, "")
    assert change.fields == ("object: {id}.{extension} -> {date}/{id}.txt", "format: json -> raw")


# -- formats ---------------------------------------------------------------------------------------------------


def test_json_is_an_object_a_row(tmp_path: Path) -> None:
    made = out(tmp_path)
    sink = made.sink()
    sink.commit("c", [Entry("1", [Order(1, ["ü"]), "text"]), Entry("2", []), Entry("3", [{"at": NOON}])])
    objects = made.objects()
    assert all(re.fullmatch(r"[0-9a-f]{32}\.json", path) for path in objects)
    assert sorted((json.loads(data) for data in objects.values()), key=str) == [
        "text",
        {"at": "2026-01-02T12:00:00Z"},
        {"id": 1, "tags": ["ü"], "at": None},
    ]


def test_raw_takes_bytes_and_text_as_they_are(tmp_path: Path) -> None:
    made = out(tmp_path, format="raw")
    made.sink().commit("c", [Entry("1", [b"\x00\xff", "Zoë"])])
    assert {Path(path).suffix: data for path, data in made.objects().items()} == {
        ".bin": b"\x00\xff",
        ".txt": "Zoë".encode(),
    }


def test_json_lines_are_an_object_an_entry(tmp_path: Path) -> None:
    made = out(tmp_path, format="jsonl")
    made.sink().commit("c", [Entry("1", [{"a": 1}, {"b": 2}]), Entry("2", []), Entry("3", [[3]])])
    assert sorted(made.objects().values()) == [b"[3]\n", b'{"a":1}\n{"b":2}\n']


def test_csv_has_the_columns_or_every_name_that_a_row_has(tmp_path: Path) -> None:
    declared = out(tmp_path / "a", COLUMNS, format="csv")
    declared.sink().commit("c", [Entry("1", [Order(1, ["a,b"], NOON), {"id": 2, "tags": []}])])
    (data,) = declared.objects().values()
    assert list(csv.reader(io.StringIO(data.decode()))) == [
        ["id", "tags", "at"],
        ["1", '["a,b"]', "2026-01-02T12:00:00+00:00"],
        ["2", "[]", ""],
    ]
    free = out(tmp_path / "b", format="csv")
    free.sink().commit("c", [Entry("1", [{"x": 1}, {"y": "a,b"}])])
    assert list(free.objects().values()) == [b'x,y\n1,\n,"a,b"\n']


def test_parquet_is_typed(tmp_path: Path) -> None:
    made = out(tmp_path, COLUMNS, format="parquet", object="{consumer}/{date}/{hour}/{id}.parquet")
    made.sink().commit("POST /orders", [Entry("1", [Order(1, ["x"], NOON)]), Entry("2", [Order(2, [])])])
    objects = made.objects()
    assert all(re.fullmatch(r"POST-orders/2026-01-02/12/[0-9a-f]{32}\.parquet", path) for path in objects)
    rows = [row for data in objects.values() for row in pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()]
    assert sorted(rows, key=lambda row: row["id"]) == [
        {"id": 1, "tags": ["x"], "at": NOON},
        {"id": 2, "tags": [], "at": None},
    ]


def test_json_with_columns_is_what_they_say(tmp_path: Path) -> None:
    made = out(tmp_path, COLUMNS)
    made.sink().commit("c", [Entry("1", [{"id": 1, "tags": (), "at": "2026-01-02T13:00:00+01:00"}])])
    (data,) = made.objects().values()
    assert json.loads(data) == {"id": 1, "tags": [], "at": "2026-01-02T12:00:00+00:00"}


@pytest.mark.parametrize(
    ("format", "columns", "row", "why"),
    [
        ("raw", (), {"a": 1}, "bytes or text, this is a mapping"),
        ("json", (), b"raw", "JSON holds no bytes"),
        ("json", (), {"a": object()}, "cannot be sent as JSON"),
        ("csv", (), [1], "a line of CSV is a mapping or a record, this is a list"),
        ("parquet", COLUMNS, {"id": "x", "tags": []}, 'column "id" holds integers, this row has text'),
    ],
)
def test_a_row_that_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, format: str, columns: tuple[Column, ...], row: Any, why: str
) -> None:
    made = out(tmp_path, columns, format=format)
    sink = made.sink()
    good: Any = "text" if format == "raw" else {"id": 1, "tags": []}
    sink.check(good)
    with pytest.raises(InvalidRow, match=why):
        sink.check(row)
    with pytest.raises(InvalidRow, match=why):
        sink.commit("c", [Entry("1", [good]), Entry("2", [row])])
    assert made.objects() == {}


# -- names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["raw", "json", "jsonl", "csv", "parquet"])
def test_a_repeated_commit_writes_the_same_objects(tmp_path: Path, format: str) -> None:
    made = out(tmp_path, COLUMNS if format == "parquet" else (), format=format)
    rows: list[Any] = ["a", b"b"] if format == "raw" else [{"id": 1, "tags": []}, {"id": 2, "tags": []}]
    made.sink().commit("c", [Entry("1", rows), Entry("2", rows)])
    first = made.objects()
    made.sink().commit("c", [Entry("2", rows)])
    made.sink().commit("c", [Entry("1", rows)])
    assert made.objects() == first
    assert len(first) == (4 if format in ("raw", "json") else 2)
    made.sink().commit("another consumer", [Entry("1", rows)])
    assert len(made.objects()) > len(first)


def test_a_path_without_an_id_gets_one_and_loses_no_row(tmp_path: Path) -> None:
    made = out(tmp_path, object="orders/latest.{extension}")
    made.sink().commit("c", [Entry("1", [1, 2])])
    assert all(re.fullmatch(r"orders/latest-[0-9a-f]{32}\.json", path) for path in made.objects())
    assert len(made.objects()) == 2


def test_a_path_with_a_date_is_another_when_the_element_comes_again_on_another_day(tmp_path: Path) -> None:
    made = out(tmp_path, object="{date}/{id}.json")
    made.sink().commit("c", [Entry("1", [1])])
    made.now += timedelta(days=1)
    made.sink().commit("c", [Entry("1", [1])])
    assert [path.split("/")[0] for path in made.objects()] == ["2026-01-02", "2026-01-03"]
    assert made.sink().guarantee == "at least once"


def test_rows_without_an_element_never_replace_each_other(tmp_path: Path) -> None:
    made = out(tmp_path)
    for row in (1, 2):
        made.sink().commit("c", [Entry("", [row])])
    assert sorted(made.objects().values()) == [b"1\n", b"2\n"]


# -- in the world ----------------------------------------------------------------------------------------------


def test_streams_are_told_of_each_object(tmp_path: Path) -> None:
    resource = bucket()
    stream = Resource(
        key="uploads", type="file_change_stream", provider="local", name="uploads", id="", label="",
        spec={"bucket": "out", "events": ["created"]}, references={"bucket": "out"},
    )  # fmt: skip
    graph = ResourceGraph(project="shop", stack="local", resources=(resource, stream))
    session = LocalSession(graph, tmp_path, tmp_path / "local", "shop-local")
    try:
        DRIVER.create(resource, session)
        STREAMS.create(stream, session)
        DRIVER.sink(resource, session).commit("c", [Entry("1", [1, 2])])
        assert len(STREAMS.source(stream, session).lease(10)) == 2
    finally:
        session.close(wait=5)


def test_a_bucket_whose_folder_is_gone_fails_in_words(tmp_path: Path) -> None:
    made = out(tmp_path)
    DRIVER.delete(made.resource, made.session)
    with pytest.raises(ResourceFailed, match="has no folder"):
        made.sink().commit("c", [Entry("1", [1])])


def test_objects_are_whole_after_a_kill(tmp_path: Path) -> None:
    """Whatever was there at the time is complete; the element that comes again makes up the rest."""
    script = """
    import sys
    from pathlib import Path
    from tests.drivers.test_bucket_sink_local import Entry, out
    sink = out(Path(sys.argv[1]), format="jsonl").sink()
    for number in range(1_000_000):
        sink.commit("c", [Entry(str(number), [{"text": "x" * 100_000}] * 3)])
        print(number, flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        cwd=ROOT, env=environment(PYTHONPATH=f"{ROOT}/platform:{ROOT}"), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    process.kill()
    last = [int(line) for line in process.stdout if line.endswith("\n")] or [19]
    process.wait()
    process.stdout.close()
    made = out(tmp_path, format="jsonl")
    before = made.objects()
    assert len(before) >= last[-1] + 1
    assert {len(data) for data in before.values()} == {3 * len('{"text":""}\n') + 300_000}
    made.sink().commit("c", [Entry(str(n), [{"text": "x" * 100_000}] * 3) for n in range(last[-1] + 2)])
    assert len(made.objects()) == last[-1] + 2


def test_it_is_a_sink(tmp_path: Path) -> None:
    sink = out(tmp_path).sink()
    asked = {*vars(Sink), *getattr(Sink, "__annotations__", {})}
    assert [name for name in asked if not name.startswith("_") and not hasattr(sink, name)] == []
    sink.commit("c", [])
    sink.close()
