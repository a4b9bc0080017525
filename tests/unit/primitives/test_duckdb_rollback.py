"""A checkpoint that was cut off, at any of the blocks it overwrites: the file is what it was, its log counts."""

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from buildflow.errors import ServiceUnavailable
from buildflow.primitives.table import duckdb_file, duckdb_rollback
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

    def cut_off(
        self, folder: Path, places: list[int], *, torn: int | None = None, grown: bool = True, header: bool = False
    ) -> Path:
        """The file as a process left it that had written `places`, half of `torn`, and what was `grown` at its end."""
        shutil.copytree(self.before, folder)
        shutil.copy(self.log, folder / "t.duckdb.wal")
        new = (self.after / "t.duckdb").read_bytes()
        with (folder / "t.duckdb").open("r+b") as file:
            for at, size in [*((at, BLOCK) for at in places), *([(torn, PAGE)] if torn is not None else [])]:
                os.pwrite(file.fileno(), new[at : at + size], at)
            if grown:
                end = (self.before / "t.duckdb").stat().st_size
                os.pwrite(file.fileno(), new[end:], end)
            if header:
                os.pwrite(file.fileno(), new[:HEADERS], 0)
        return folder / "t.duckdb"


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
    for written, grown in [(w, g) for w in range(len(overwritten) + 1) for g in (False, True)]:
        path = checkpoint.cut_off(tmp_path / f"{written}{grown}", overwritten[:written], grown=grown)
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


def test_everything_is_on_the_disk_before_what_depends_on_it(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal before the checkpoint; what was put back before the journal is cleared. And that under a lock that
    keeps out readers."""
    path = checkpoint.cut_off(tmp_path / "f", checkpoint.overwritten())
    done: list[str] = []
    write, sync, keeping = duckdb_rollback._write, duckdb_rollback._sync, RollbackJournal.keeping

    def name(file: int) -> str:
        return Path(os.readlink(f"/proc/self/fd/{file}")).name

    def locked() -> bool:
        with (path.parent / ".t.duckdb.store").open() as store:
            try:
                fcntl.flock(store, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def writing(file: int, content: bytes, at: int) -> None:
        assert locked()
        done.append(f"write {name(file)}")
        write(file, content, at)

    def syncing(file: int) -> None:
        sync(file)
        done.append(f"sync {name(file)}")

    @contextmanager
    def observed(journal: RollbackJournal, blocks: list[int]) -> Iterator[None]:
        with keeping(journal, blocks):
            done.append("checkpoint")
            yield

    monkeypatch.setattr(duckdb_rollback, "_write", writing)
    monkeypatch.setattr(duckdb_rollback, "_sync", syncing)
    monkeypatch.setattr(RollbackJournal, "keeping", observed)
    insert(path, 1, checkpoint.rows)
    file, journal = "t.duckdb", ".t.duckdb.rollback"
    put_back, saved = done[: done.index(f"write {journal}")], done[done.index(f"write {journal}") + 1 :]
    assert [*dict.fromkeys(put_back)] == [f"write {file}", f"sync {file}"]
    assert put_back.count(f"sync {file}") == 1
    assert [*dict.fromkeys(saved)] == [f"write {journal}", f"sync {journal}", "checkpoint"]
    assert saved[-3:] == [f"sync {journal}", "checkpoint", f"write {journal}"]


@pytest.mark.parametrize(("commits", "rows"), [(25, 20_000), (1, 29_000), (1, 3_000_000)])
def test_nothing_is_checkpointed_without_a_journal_however_much_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commits: int, rows: int
) -> None:
    """In one attachment: a log of 25 MB; transactions that DuckDB would checkpoint at once."""
    path = created(tmp_path / "t.duckdb")
    insert(path, 10)
    before = path.read_bytes()[:HEADERS]
    found: list[bytes] = []
    keeping = RollbackJournal.keeping

    @contextmanager
    def observed(journal: RollbackJournal, blocks: list[int]) -> Iterator[None]:
        found.append(path.read_bytes()[:HEADERS])
        with keeping(journal, blocks):
            yield

    monkeypatch.setattr(RollbackJournal, "keeping", observed)
    monkeypatch.setattr(duckdb_file, "HOLD", 60.0)
    monkeypatch.setattr(duckdb_file, "LINGER", 2.0)
    sql = f"INSERT INTO t SELECT i, 'text ' || hash(i), now(), i * 1.5 FROM range(10, {rows + 10}) r(i)"
    for _ in range(commits):
        database(path).write(lambda c: c.execute(sql).fetchall())
    wait_until_closed(path)
    assert found == [before]
    assert path.read_bytes()[:HEADERS] != before
    assert count(path)[0] == commits * rows + 10


def test_while_another_program_has_the_file_nothing_is_put_back(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duckdb_file, "PATIENCE", 0.2)
    path = checkpoint.cut_off(tmp_path / "f", [])
    code = "import sys, duckdb; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdin
        assert shell.stdout
        assert shell.stdout.readline() == "open\n"
        before = path.read_bytes()
        with pytest.raises(ServiceUnavailable, match=r"t\.duckdb is kept open by another program"):
            count(path)
        assert path.read_bytes() == before
        assert RollbackJournal(path).hot()
        monkeypatch.setattr(duckdb_file, "PATIENCE", 60.0)
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(count, path)
            shell.stdin.close()
            assert waiting.result() == (checkpoint.rows, checkpoint.rows)


def test_a_file_of_an_older_version_that_does_not_say_how_large_its_blocks_are(tmp_path: Path) -> None:
    path = created(tmp_path / "t.duckdb")
    insert(path, 10)
    content = bytearray(path.read_bytes())
    for header in (PAGE, 2 * PAGE):
        content[header + 40 : header + 48] = bytes(8)
    path.write_bytes(content)
    journal = RollbackJournal(path)
    with pytest.raises(KeyboardInterrupt), journal.keeping([0]):
        raise KeyboardInterrupt
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), b"x" * PAGE, HEADERS)
    journal.roll_back()
    assert path.read_bytes() == content


def test_where_no_journal_can_be_written_there_is_no_checkpoint_and_no_write_fails(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = created(tmp_path / "t.duckdb")
    journal = tmp_path / ".t.duckdb.rollback"
    journal.unlink()
    journal.symlink_to(tmp_path / "nowhere" / "x")
    for number in range(3):
        insert(path, 10, 10 * number)
        assert count(path) == (10 * number + 10, 10 * number + 10)
        assert (tmp_path / "t.duckdb.wal").exists()
    assert [r.getMessage().partition(": ")[0] for r in caplog.records] == [
        f"{path} is not checkpointed, its log grows"
    ], "once"
    journal.unlink()
    insert(path, 10, 30)
    assert count(path) == (40, 40)
    assert not (tmp_path / "t.duckdb.wal").exists()


def test_a_checkpoint_that_fails_is_no_failure_of_those_who_write_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = created(tmp_path / "t.duckdb")
    failed: list[int] = []
    save = RollbackJournal._save

    def full(journal: RollbackJournal, file: int, blocks: list[int]) -> None:
        if len(failed) < 20:
            failed.append(1)
            raise OSError(errno.ENOSPC, "No space left on device")
        save(journal, file, blocks)

    monkeypatch.setattr(RollbackJournal, "_save", full)
    monkeypatch.setattr(duckdb_file, "HOLD", 0.001)

    def writing(client: int) -> None:
        for number in range(25):
            insert(path, 1, 100 * client + number)

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(writing, client) for client in range(4)]:
            done.result()
    assert len(failed) == 20
    assert count(path) == (100, 100)


def test_an_error_that_nobody_foresaw_leaves_the_store_to_others(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = checkpoint.cut_off(tmp_path / "f", [])
    with monkeypatch.context() as patch:
        patch.setattr(RollbackJournal, "roll_back", lambda _: [][0])
        with pytest.raises(IndexError) as kept:
            count(path)
    assert kept.value.__traceback__, "which holds the frames"
    assert count(path) == (checkpoint.rows, checkpoint.rows)


@pytest.mark.parametrize("fails", [False, True])
def test_duckdb_closes_the_file_before_the_journal_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Or the locks that keep out other programs would be gone while it is open."""
    path = created(tmp_path / "t.duckdb")
    found: list[int] = []
    keeping = RollbackJournal.keeping

    def openings() -> int:
        count = 0
        for file in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # of the listing itself
                count += os.readlink(file) == str(path)
        return count

    @contextmanager
    def observed(journal: RollbackJournal, blocks: list[int]) -> Iterator[None]:
        with keeping(journal, blocks), monkeypatch.context() as patch:
            if fails:
                patch.setattr(duckdb_file, "CATALOG", "nowhere")
            before = openings()
            try:
                yield
            finally:
                found.extend([before, openings()])

    with monkeypatch.context() as patch:
        patch.setattr(RollbackJournal, "keeping", observed)
        insert(path, 10)
    assert found == [2, 1]
    assert RollbackJournal(path).hot() == fails
    insert(path, 10, 10)
    assert count(path) == (20, 20)
    assert not RollbackJournal(path).hot()


def test_who_may_write_the_file_may_write_its_journal(tmp_path: Path) -> None:
    path = created(tmp_path / "t.duckdb")
    journal = tmp_path / ".t.duckdb.rollback"
    for mode in (0o666, 0o600):
        path.chmod(mode)
        journal.unlink()
        insert(path, 10)
        assert journal.stat().st_mode & 0o777 == mode
