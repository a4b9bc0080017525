"""A checkpoint that was cut off, at any of the blocks it overwrites: the file is what it was, its log counts."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from buildflow.errors import ServiceUnavailable
from buildflow.primitives.table.duckdb_file import database
from buildflow.primitives.table.duckdb_locks import StoreLocks
from buildflow.primitives.table.duckdb_rollback import RollbackJournal

HEADERS, BLOCK, PAGE = 3 * 4096, 1 << 18, 4096


@dataclass(frozen=True)
class Checkpoint:
    """A folder with the file, its log and its journal, when a checkpoint begins and when it has ended; and the log
    as it was between, with its mark that a checkpoint is under way."""

    before: Path
    after: Path
    log: Path
    rows: int

    def overwritten(self) -> list[int]:
        """Where the blocks are that were there before and are others now."""
        old, new = (self.before / "t.duckdb").read_bytes(), (self.after / "t.duckdb").read_bytes()
        places = range(HEADERS, len(old), BLOCK)
        return [at for at in places if old[at : at + BLOCK] != new[at : at + BLOCK]]

    def cut_off(self, folder: Path, places: list[int], *, torn: int | None = None, header: bool = False) -> Path:
        """The file as a process left it that had written `places`, and half of `torn`."""
        shutil.copytree(self.before, folder)
        shutil.copy(self.log, folder / "t.duckdb.wal")
        new = (self.after / "t.duckdb").read_bytes()
        with (folder / "t.duckdb").open("r+b") as file:
            for at, size in [*((at, BLOCK) for at in places), *([(torn, PAGE)] if torn is not None else [])]:
                os.pwrite(file.fileno(), new[at : at + size], at)
            os.pwrite(file.fileno(), new[HEADERS + self._old_size() :], HEADERS + self._old_size())
            if header:
                os.pwrite(file.fileno(), new[:HEADERS], 0)
        return folder / "t.duckdb"

    def _old_size(self) -> int:
        return (self.before / "t.duckdb").stat().st_size - HEADERS


def count(path: Path) -> tuple[int, int]:
    with database(path).reading() as connection:
        found: tuple[int, int] = connection.execute("SELECT count(*), count(DISTINCT i) FROM t").fetchall()[0]
        return found


def wait_until_closed(path: Path) -> None:
    """A write is answered when it is in the log; the checkpoint comes when nothing more is to be written."""
    StoreLocks(path).shared().release()


def insert(path: Path, rows: int, first: int = 0) -> None:
    sql = f"INSERT INTO t SELECT i, 'text ' || hash(i), now(), i * 1.5 FROM range({first}, {first + rows}) r(i)"
    database(path).write(lambda c: c.execute(sql).fetchall())
    wait_until_closed(path)


def created(path: Path) -> Path:
    sql = "CREATE TABLE t (i BIGINT, a VARCHAR, b TIMESTAMPTZ, c DOUBLE)"
    database(path).write(lambda c: c.execute(sql).fetchall(), create=True)
    wait_until_closed(path)
    return path


# what was there when the checkpoint begins: blocks of metadata by the thousand rows, and how they are used
HISTORIES = {"nothing": [], "a few rows": [10], "many small commits": [100] * 30, "a large table": [3_000_000, 50, 50]}


@pytest.fixture(scope="module", params=HISTORIES.values(), ids=HISTORIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkpoint]:
    folder = tmp_path_factory.mktemp("checkpoint")
    path = created(folder / "now" / "t.duckdb")
    total = 0
    for rows in request.param:
        insert(path, rows, total)
        total += rows
    keeping = RollbackJournal.keeping

    @contextmanager
    def observed(journal: RollbackJournal, blocks: list[int]) -> Iterator[None]:
        with keeping(journal, blocks):
            shutil.copytree(folder / "now", folder / "before")
            os.link(folder / "now" / "t.duckdb.wal", folder / "log")
            yield
            shutil.copytree(folder / "now", folder / "after")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RollbackJournal, "keeping", observed)
        insert(path, 700, total)
    yield Checkpoint(folder / "before", folder / "after", folder / "log", total + 700)
    shutil.rmtree(folder)


def opens(path: Path) -> bool:
    try:
        duckdb.connect(str(path), read_only=True).close()
    except duckdb.Error as exc:
        return "Corrupt" not in str(exc)
    return True


def test_a_block_that_is_half_written_is_put_back(checkpoint: Checkpoint, tmp_path: Path) -> None:
    overwritten = checkpoint.overwritten()
    unreadable = 0
    for number, torn in enumerate(overwritten):
        others = [at for at in overwritten if at != torn]
        for name, written in {"first": [], "last": others}.items():
            path = checkpoint.cut_off(tmp_path / f"{name}{number}", written, torn=torn)
            unreadable += not opens(path)
            assert count(path) == (checkpoint.rows, checkpoint.rows)
            insert(path, 1, checkpoint.rows)
            assert count(path)[0] == checkpoint.rows + 1
            assert opens(path)
            assert not RollbackJournal(path).hot()
    assert unreadable, "else DuckDB overwrites nothing that it needs any more, and the journal can go"


def test_whatever_was_written_whole_before_the_header_each_row_is_there_once(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    overwritten = checkpoint.overwritten()
    for written in range(len(overwritten) + 1):
        path = checkpoint.cut_off(tmp_path / f"{written}", overwritten[:written])
        assert count(path) == (checkpoint.rows, checkpoint.rows)
        assert not RollbackJournal(path).hot()


def test_a_checkpoint_that_has_written_its_header_stands(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = checkpoint.cut_off(tmp_path / "f", checkpoint.overwritten(), header=True)
    assert checkpoint.log.stat().st_size > (checkpoint.before / "t.duckdb.wal").stat().st_size
    assert (path.parent / "t.duckdb.wal").exists()
    before = path.read_bytes()
    assert RollbackJournal(path).hot()
    assert count(path) == (checkpoint.rows, checkpoint.rows)
    assert path.read_bytes() == before


def test_a_journal_that_is_half_written_is_of_a_checkpoint_that_never_began(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    path = checkpoint.cut_off(tmp_path / "f", [])
    journal = path.with_name(".t.duckdb.rollback")
    content = journal.read_bytes()
    before = path.read_bytes()
    changed = content[:-10] + bytes(10) if content[-10:] != bytes(10) else content[:-10] + b"x" * 10
    for torn in (b"", content[:5], content[:20], content[: len(content) // 2], changed):
        journal.write_bytes(torn)
        assert count(path) == (checkpoint.rows, checkpoint.rows)
        assert not RollbackJournal(path).hot()
        assert path.read_bytes() == before


def test_another_file_of_the_same_name_is_left_alone(tmp_path: Path) -> None:
    one = created(tmp_path / "one" / "t.duckdb")
    insert(one, 10)
    other = created(tmp_path / "other" / "t.duckdb")
    insert(other, 20)
    with pytest.raises(KeyboardInterrupt), RollbackJournal(one).keeping([0]):
        raise KeyboardInterrupt
    shutil.copy(other, one)
    assert RollbackJournal(one).hot()
    assert count(one)[0] == 20
    assert not RollbackJournal(one).hot()


def test_where_no_journal_can_be_written_no_row_is_lost_and_the_reason_is_told(tmp_path: Path) -> None:
    path = created(tmp_path / "t.duckdb")
    insert(path, 10)
    journal = tmp_path / ".t.duckdb.rollback"
    journal.unlink()
    journal.mkdir()
    with pytest.raises(ServiceUnavailable, match=r"t\.duckdb .*Is a directory"):
        insert(path, 20)
    journal.rmdir()
    assert count(path)[0] == 10
    insert(path, 20)
    assert count(path)[0] == 30


def test_a_checkpoint_that_fails_leaves_the_rows_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = created(tmp_path / "t.duckdb")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(RollbackJournal, "_save", full)
        insert(path, 10)
        assert count(path)[0] == 10
        insert(path, 10, 10)
        assert count(path)[0] == 20
    assert (tmp_path / "t.duckdb.wal").exists()
    insert(path, 10, 20)
    assert count(path) == (30, 30)
    assert not (tmp_path / "t.duckdb.wal").exists()
