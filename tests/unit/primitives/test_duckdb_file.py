"""One DuckDB file, many threads and processes: turns, groups, forks and deaths."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest

from buildflow.errors import ResourceFailed, ServiceUnavailable
from buildflow.primitives.table import duckdb_file
from buildflow.primitives.table.duckdb_file import DuckDBFile, database

spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "sub" / "t.duckdb"
    database(path).write(lambda c: c.execute("CREATE TABLE t (i BIGINT NOT NULL)"), create=True)
    return path


def insert(file: DuckDBFile, *values: int | None) -> None:
    file.write(lambda c: c.execute("INSERT INTO t SELECT unnest(?::BIGINT[])", [list(values)]))


def read(path: Path) -> list[int]:
    with database(path).reading() as connection:
        return [i for (i,) in connection.execute("SELECT i FROM t ORDER BY i").fetchall()]


def test_what_is_written_is_read_here_and_elsewhere(path):
    insert(database(path), 1, 2)
    assert read(path) == [1, 2]
    code = "import sys, duckdb; print(duckdb.connect(sys.argv[1]).execute('SELECT sum(i) FROM t').fetchone()[0])"
    seen = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "3"


def test_the_same_file_by_another_name_is_the_same(path, tmp_path):
    (tmp_path / "link").symlink_to(path.parent)
    assert database(tmp_path / "link" / "t.duckdb") is database(path.parent / "." / "t.duckdb")


def test_a_file_that_is_not_there_says_what_to_do(tmp_path):
    file = database(tmp_path / "none.duckdb")
    with pytest.raises(ResourceFailed, match="does not exist") as caught, file.reading():
        pass
    assert caught.value.hint == "run: platform apply"
    with pytest.raises(ResourceFailed, match="does not exist"):
        insert(file, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "t.duckdb").write_text("no database" * 1000)
    with pytest.raises(ResourceFailed, match=r"t\.duckdb cannot be opened: .*not a valid DuckDB"):
        insert(database(tmp_path / "t.duckdb"), 1)


def test_a_read_while_this_process_writes_sees_committed_rows_only(path):
    wrote, go_on = threading.Event(), threading.Event()

    def work(connection):
        connection.execute("INSERT INTO t VALUES (1)")
        wrote.set()
        assert go_on.wait(60)

    with ThreadPoolExecutor() as pool:
        writing = pool.submit(database(path).write, work)
        assert wrote.wait(60)
        assert read(path) == []  # at once: it does not wait for the writer
        go_on.set()
        writing.result()
    assert read(path) == [1]


def test_a_group_is_one_transaction_and_only_the_culprit_fails(path):
    """Jobs queue behind one that is held; then a bad one among them takes nothing down but itself."""
    file = database(path)
    began, go_on = threading.Event(), threading.Event()
    transactions: list[int] = []

    def first(connection):
        began.set()
        assert go_on.wait(60)

    def job(value):
        def work(connection):
            transactions.append(connection.execute("SELECT txid_current()").fetchone()[0])
            connection.execute("INSERT INTO t VALUES (?)", [value])

        return work

    with ThreadPoolExecutor(20) as pool:
        held = pool.submit(file.write, first)
        assert began.wait(60)
        jobs = []
        for place, value in enumerate((1, 2, None, 3, 4), start=1):
            jobs.append(pool.submit(file.write, job(value)))
            while len(file._queue) < place:  # or the threads would queue in an order of their own
                time.sleep(0.001)
        go_on.set()
        held.result()
        with pytest.raises(duckdb.ConstraintException):
            jobs[2].result()
        for good in (0, 1, 3, 4):
            jobs[good].result()
    assert read(path) == [1, 2, 3, 4]
    assert len(set(transactions[:3])) == 1, "the group shared a transaction until it failed"


def test_payloads_of_one_key_go_together(path):
    file = database(path)
    began, go_on = threading.Event(), threading.Event()
    calls: list[list[int]] = []

    def together(connection, payloads):
        calls.append(list(payloads))
        connection.execute("INSERT INTO t SELECT unnest(?::BIGINT[])", [list(payloads)])
        return [p * 10 for p in payloads]

    def first(connection):
        began.set()
        assert go_on.wait(60)

    with ThreadPoolExecutor(20) as pool:
        held = pool.submit(file.write, first)
        assert began.wait(60)
        jobs = [pool.submit(file.write_together, "k", together, value) for value in range(10)]
        while len(file._queue) < 10:
            time.sleep(0.001)
        go_on.set()
        held.result()
        assert [j.result() for j in jobs] == [v * 10 for v in range(10)]
    assert [len(c) for c in calls] == [10]


def test_what_would_wait_for_itself_is_refused_and_a_nested_read_is_not(path):
    file = database(path)
    insert(file, 1)
    with file.reading():
        assert read(path) == [1]
        with pytest.raises(RuntimeError, match="inside a read"):
            insert(file, 2)
    with pytest.raises(RuntimeError, match="inside a read"):
        file.write(lambda _: insert(file, 2))
    assert file.write(lambda _: read(path)) == [1]


def test_a_foreign_program_that_keeps_the_file_is_named(path, monkeypatch):
    monkeypatch.setattr(duckdb_file, "PATIENCE", 0.2)
    code = "import sys, duckdb; c = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as shell:
        assert shell.stdout.readline() == "open\n"
        said = rf"t\.duckdb is kept open by .*python.* \(process {shell.pid}\)"
        with pytest.raises(ServiceUnavailable, match=said):
            insert(database(path), 1)
        with pytest.raises(ServiceUnavailable, match=said):
            read(path)
        monkeypatch.setattr(duckdb_file, "PATIENCE", 10.0)
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(insert, database(path), 1)
            shell.stdin.close()
            waiting.result()
    assert read(path) == [1]


def test_threads_that_read_and_write_at_once(path):
    def both(value):
        insert(database(path), value)
        assert value in read(path)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(both, range(300)))
    assert read(path) == list(range(300))


def test_an_instance_is_replaced_now_and_then_whoever_reads_and_writes(path, monkeypatch):
    monkeypatch.setattr(duckdb_file, "RENEW", 3)
    first = database(path)._instance

    def turn(number: int) -> None:
        insert(database(path), number)
        assert number in read(path)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(turn, number) for number in range(200)]:
            done.result()
    assert read(path) == list(range(200))
    assert database(path)._instance is not first


def test_a_broken_instance_is_replaced(path):
    """A connection that is gone fails its own job; the next job gets a new one."""
    file = database(path)
    with pytest.raises(duckdb.Error):
        file.write(lambda c: (c.close(), c.execute("SELECT 1")))
    insert(file, 1)
    assert read(path) == [1]


# Processes


def write_in_a_loop(path, started, stop, count):
    file = database(path)
    while not stop.is_set():
        insert(file, 1)
        count.value += 1
        started.set()


def read_in_a_loop(path, started, stop, count):
    while not stop.is_set():
        read(path)
        count.value += 1
        started.set()


@pytest.mark.parametrize(("writers", "readers"), [(1, 4), (2, 1)])
def test_neither_readers_nor_writers_starve(path, writers, readers):
    """Everyone loops without a pause; everyone gets on."""
    stop = spawn.Event()
    crew = []
    for target in [write_in_a_loop] * writers + [read_in_a_loop] * readers:
        started, count = spawn.Event(), spawn.Value("i", 0)
        process = spawn.Process(target=target, args=(path, started, stop, count))
        process.start()
        crew.append((process, started, count))
    try:
        for _, started, _ in crew:
            assert started.wait(90)
        before = [count.value for *_, count in crew]
        time.sleep(3)  # a rate needs a duration
        rates = [(count.value - b) / 3 for b, (*_, count) in zip(before, crew, strict=True)]
    finally:
        stop.set()
        for process, *_ in crew:
            process.join(90)
    print("per second:", [round(r) for r in rates])
    assert all(rate > 1 for rate in rates), rates
    assert [process.exitcode for process, *_ in crew] == [0] * len(crew)


def in_a_fork(work) -> int:
    return exit_code(fork(work))


def exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def fork(work) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(30)
            work()
            code = 0
        except BaseException:  # noqa: BLE001
            traceback.print_exc()  # pytest's capture shows it with the failure
        finally:
            os._exit(code)
    return pid


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_reads_and_writes(path):
    insert(database(path), 1)
    assert read(path) == [1]

    def child():
        assert read(path) == [1]
        insert(database(path), 2)
        assert read(path) == [1, 2]

    assert in_a_fork(child) == 0
    insert(database(path), 3)
    assert read(path) == [1, 2, 3]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forks_in_the_middle_of_reads_and_writes(path):
    """Threads are busy while the process forks again and again; each child works, no lock is left behind."""
    stop = threading.Event()
    done: list[int] = []

    def busy(value):
        while not stop.is_set():
            insert(database(path), value)
            read(path)
            done.append(value)

    with ThreadPoolExecutor(4) as pool:
        threads = [pool.submit(busy, value) for value in range(4)]
        try:
            for number in range(100, 115):
                assert in_a_fork(lambda n=number: insert(database(path), n)) == 0
        finally:
            stop.set()
        for thread in threads:
            thread.result()
    assert sorted(read(path)) == sorted([*done, *range(100, 115)])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_inside_a_read_is_told_and_harms_nobody(path):
    def child():
        with pytest.raises(ServiceUnavailable, match="where this process was forked"):
            read(path)

    insert(database(path), 1)
    with database(path).reading():
        assert in_a_fork(child) == 0
    insert(database(path), 2)
    assert read(path) == [1, 2]


def database_is_attached() -> bool:
    return any(file._attached for file in duckdb_file._files.values())


def test_code_of_this_process_that_has_it_open_is_named(path, monkeypatch):
    monkeypatch.setattr(duckdb_file, "PATIENCE", 0.1)
    with duckdb_file._lock:  # the fixture's writer has let go
        assert duckdb_file._changed.wait_for(lambda: not database_is_attached(), timeout=60)
    with (
        duckdb.connect(path, read_only=True),
        pytest.raises(ServiceUnavailable, match="kept open by other code of this process"),
    ):
        insert(database(path), 1)
    insert(database(path), 2)
    assert read(path) == [2]


def hold_forever(path, holding):
    def work(connection):
        connection.execute("INSERT INTO t VALUES (99)")
        holding.set()
        threading.Event().wait()

    database(path).write(work)


def test_a_writer_killed_within_its_transaction_blocks_nobody(path):
    insert(database(path), 1)
    holding = spawn.Event()
    process = spawn.Process(target=hold_forever, args=(path, holding))
    process.start()
    assert holding.wait(90)
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(insert, database(path), 2), pool.submit(read, path)]
        process.kill()
        process.join()
        waiting[0].result(timeout=90)
        assert 1 in waiting[1].result(timeout=90)
    assert read(path) == [1, 2]


def test_a_process_that_ends_at_once_says_nothing_and_loses_nothing(path):
    """No abort in a daemon thread, no leak report of DuckDB on stderr."""
    code = (
        "import sys; from pathlib import Path; from buildflow.primitives.table.duckdb_file import database\n"
        "f = database(Path(sys.argv[1]))\n"
        "f.write(lambda c: c.execute('INSERT INTO t VALUES (1)'))"
    )
    env = os.environ | {"PYTHONPATH": "platform"}
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, env=env)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert read(path) == [1, 1, 1]


def test_a_process_that_becomes_another_lets_go_of_the_file_first(path):
    code = (
        "import sys; from pathlib import Path; from buildflow.primitives.table.duckdb_file import database\n"
        "from buildflow.cli.run import become\n"
        "database(Path(sys.argv[1])).write(lambda c: c.execute('INSERT INTO t VALUES (1)'))\n"
        "become([sys.executable, '-c', 'print(1)'])"
    )
    env = os.environ | {"PYTHONPATH": "platform"}
    for times in range(1, 4):
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, env=env)
        assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
        assert [p.name for p in path.parent.iterdir() if p.name.endswith(".wal")] == [], "its checkpoint was cut off"
        assert read(path) == [1] * times


def test_importing_it_imports_no_duckdb():
    code = (
        "import sys, buildflow.primitives.table.local\n"
        "assert not {'duckdb', 'pyarrow', 'pytz', 'numpy'} & set(sys.modules)"
    )
    env = os.environ | {"PYTHONPATH": "platform"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
