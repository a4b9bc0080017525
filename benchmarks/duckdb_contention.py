"""What readers cost a writer of the local tables, and what a million remembered ids cost a commit.

    python benchmarks/duckdb_contention.py [--json]

Real processes: one commits 10 rows with their ids as fast as it can, four read 50 rows as fast as they can. Runs
alone and together alternate, so that other load on the machine meets both; figures are medians.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "platform"))

from buildflow.ir.columns import Column
from buildflow.primitives.base import Entry
from buildflow.primitives.element_ids import new_id
from buildflow.primitives.table.duckdb_columns import definition
from buildflow.primitives.table.duckdb_file import LINGER, database
from buildflow.primitives.table.duckdb_table import (
    DuckDBSink,
    DuckDBTable,
    Location,
)

COLUMNS = (
    Column(name="id", kind="string"),
    Column(name="value", kind="float"),
    Column(name="note", kind="string", nullable=True),
)
READERS, ROUNDS, SECONDS = 4, 5, 2.0
IDS, ROWS, COMMITS = 1_000_000, 500, 25
spawn = multiprocessing.get_context("spawn")


def make_table(folder: Path) -> Location:
    location = Location(folder / "tables.duckdb", "main", "measurements")
    table = f"CREATE TABLE {location.sql} ({', '.join(map(definition, COLUMNS))})"
    database(location.path).write(lambda c: c.execute(table), create=True)
    return location


def entries(count: int, make: Callable[[], str] = new_id) -> list[Entry]:
    return [Entry(id, [{"id": id, "value": 0.5}]) for id in (make() for _ in range(count))]


def read_while(location: Location, go: Any, stop: Any, reads: Any) -> None:
    table = DuckDBTable(location, COLUMNS)
    while not stop.is_set():
        if go.wait(0.1):
            table.rows(limit=50)
            with reads.get_lock():
                reads.value += 1


@contextmanager
def readers(location: Location) -> Iterator[tuple[Any, Any]]:
    """Four processes that read while the event is set; it and the count of their reads."""
    go, stop, reads = spawn.Event(), spawn.Event(), spawn.Value("i", 0)
    crew = [spawn.Process(target=read_while, args=(location, go, stop, reads)) for _ in range(READERS)]
    for process in crew:
        process.start()
    go.set()
    while reads.value < 5 * READERS:  # all of them have started
        time.sleep(0.05)
    go.clear()
    try:
        yield go, reads
    finally:
        stop.set()
        for process in crew:
            process.join()


def commits_per_second(sink: DuckDBSink) -> float:
    commits, start = 0, time.perf_counter()
    while time.perf_counter() < start + SECONDS:
        sink.commit("bench", entries(10))
        commits += 1
    return commits / (time.perf_counter() - start)


def contention(location: Location) -> dict[str, float]:
    alone, together, read_rates = [], [], []
    sink = DuckDBSink(location, COLUMNS)
    commits_per_second(sink)
    with readers(location) as (go, reads):
        for _ in range(ROUNDS):
            alone.append(commits_per_second(sink))
            before = reads.value
            go.set()
            together.append(commits_per_second(sink))
            go.clear()
            read_rates.append((reads.value - before) / SECONDS)
    return {"alone": median(alone), "together": median(together), "reads": median(read_rates)}


def commit_among_a_million(location: Location, make: Callable[[], str]) -> float:
    """Milliseconds for one commit of 500 rows, the file being opened for it."""
    sink = DuckDBSink(location, COLUMNS)
    for _ in range(10):
        sink.commit("bench", [Entry(make(), []) for _ in range(IDS // 10)])
    taken = []
    for _ in range(COMMITS):
        rows = entries(ROWS, make)
        time.sleep(LINGER * 4)  # the writer lets go of the file
        start = time.perf_counter()
        sink.commit("bench", rows)
        taken.append((time.perf_counter() - start) * 1000)
    return median(taken)


def measure() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        tables = [make_table(Path(folder) / name) for name in ("rates", "ours", "others")]
        rates = contention(tables[0])
        ours = commit_among_a_million(tables[1], new_id)
        others = commit_among_a_million(tables[2], lambda: uuid.uuid4().hex)
    kept = rates["together"] / rates["alone"]
    return [
        figure("DuckDB: commits kept under four looping readers", kept, 0.5, "ratio"),
        figure("DuckDB: commits, one writer alone", rates["alone"], None, "1/s"),
        figure("DuckDB: commits, with four looping readers", rates["together"], None, "1/s"),
        figure("DuckDB: reads meanwhile, all four", rates["reads"], None, "1/s"),
        figure("DuckDB: commit of 500 rows among 1,000,000 ids", ours, 120, "ms"),
        figure("DuckDB: the same, where others chose the ids", others, 120, "ms"),
    ]


def figure(name: str, value: float, target: float | None, unit: str) -> dict[str, Any]:
    return {"name": name, "value": round(value, 2), "target": target, "unit": unit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    asked = parser.parse_args()
    figures = measure()
    if asked.json:
        print(json.dumps(figures))
        return
    for f in figures:
        limit = "" if f["target"] is None else f"   (target {f['target']} {f['unit']})"
        print(f"{f['name']:<50} {f['value']:>9} {f['unit']}{limit}")


if __name__ == "__main__":
    main()
