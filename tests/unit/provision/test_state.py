"""What is recorded of a stack: whole or not at all, under a lock."""

import os
import threading
from pathlib import Path

import pytest

from buildflow.errors import StateUnreadable
from buildflow.ir.graph import Resource
from buildflow.provision.state import LOCK_FILE, STATE_FILE, State, load, locked, save, write_whole

FILES = Resource(key="files", type="bucket", provider="local", name="files", id="x", label="Bucket", spec={"a": [1]})


def test_nothing_recorded_is_an_empty_state(tmp_path: Path) -> None:
    assert load(tmp_path / "never" / "made") == State()


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    save(tmp_path / "new", State(resources={"files": FILES}))
    assert load(tmp_path / "new").resources == {"files": FILES}
    assert [p.name for p in (tmp_path / "new").iterdir()] == [STATE_FILE], "no temporary file stays"


@pytest.mark.parametrize("text", ["", "{", '{"resources": 3}', '{"version": 1, "unknown": 1}'])
def test_what_cannot_be_read_is_said_with_its_cure(tmp_path: Path, text: str) -> None:
    (tmp_path / STATE_FILE).write_text(text)
    with pytest.raises(StateUnreadable, match=r"state\.json cannot be read") as caught:
        load(tmp_path)
    assert str(tmp_path) in caught.value.hint


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, "old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "new")
    assert path.read_text() == "old"


def test_the_second_waits_for_the_first_and_says_for_whom(tmp_path: Path) -> None:
    said: list[str] = []
    order: list[str] = []
    waiting = threading.Event()

    def note(words: str) -> None:
        said.append(words)
        waiting.set()

    def second() -> None:
        with locked(tmp_path, note):
            order.append("second")

    thread = threading.Thread(target=second)
    with locked(tmp_path, said.append):
        thread.start()
        assert waiting.wait(60)
        order.append("first")
    thread.join(60)
    assert order == ["first", "second"]
    assert said == [f"another command (process {os.getpid()}) is changing this stack; waiting for it"]
    assert (tmp_path / LOCK_FILE).read_text() == "", "nobody is named when nobody holds it"


def test_a_failure_lets_go_of_the_lock(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path, lambda words: None):
        raise RuntimeError
    with locked(tmp_path, lambda words: pytest.fail(words)):
        pass
