"""Ids of elements and the marks that sinks keep of them."""

import os
import subprocess
import sys
import time
import uuid

import pytest

from buildflow.primitives.element_ids import derived_id, mark_of, new_id

OTHERS = ["1", "order 7", "ä" * 100, str(uuid.UUID(int=5, version=4)), "0" * 32]


def test_an_id_is_a_uuid_that_begins_at_random_and_ends_with_its_time() -> None:
    before = time.time_ns() // 1_000_000
    id = new_id()
    assert uuid.UUID(id).version == 8
    assert uuid.UUID(id).variant == uuid.RFC_4122
    assert id == uuid.UUID(id).hex
    assert before <= int(id[-12:], 16) <= time.time_ns() // 1_000_000
    assert len({new_id()[:12] for _ in range(10_000)}) == 10_000


def test_no_process_repeats_the_ids_of_another() -> None:
    def ids() -> list[str]:
        return [new_id()[:18] for _ in range(100)]

    ids()  # those to come are prepared

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, " ".join(ids()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as written:
        childs = written.read().split()
    code = "from buildflow.primitives.element_ids import new_id; print(*(new_id()[:18] for _ in range(100)))"
    others = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert len({*ids(), *ids(), *childs, *others}) == 400


def test_a_derived_id_is_always_the_same_and_of_the_same_time() -> None:
    id = new_id()
    derived = derived_id(id, "consumer", "0")
    assert derived == derived_id(id, "consumer", "0")
    assert derived[-12:] == id[-12:]
    assert uuid.UUID(derived).version == 8
    others = [derived_id(id, "consumer", "1"), derived_id(id, "other", "0"), derived_id("x", "other", "0")]
    assert len({other[:8] for other in (id, derived, *others)}) == 5
    assert derived_id(derived, "next", "0")[-12:] == id[-12:]


def test_ids_and_marks_are_the_same_in_every_version() -> None:
    """Another version would write again what this one wrote."""
    ours = "0123456789ab8cde8f010191b2c3d4e5"
    assert derived_id(ours, "consumer", "0") == "361d59919ed687d986760191b2c3d4e5"
    assert derived_id("theirs", "consumer", "0") == "072632d8821195ec58e998e8f413ecf8"
    assert f"{mark_of('consumer', ours):032x}" == "646cb0f5397a805ab42eb8258976da59"
    assert f"{mark_of('consumer', 'theirs'):032x}" == "2dceffa6488778629138b51b524254cf"


@pytest.mark.parametrize("id", OTHERS)
def test_an_id_that_others_chose_gives_derived_ids_and_marks_too(id: str) -> None:
    assert derived_id(id, "consumer", "0") == derived_id(id, "consumer", "0") != derived_id(id, "consumer", "1")
    assert len(derived_id(id, "consumer", "0")) == 32
    assert mark_of("consumer", id) == mark_of("consumer", id) != mark_of("other", id)


def test_marks_have_128_bits_and_differ_by_writer_and_id() -> None:
    ids = [*OTHERS, *(new_id() for _ in range(1000)), f"{'f' * 12}8abc8abc{'f' * 12}"]
    marks = {mark_of(writer, id) for writer in ("a", "b") for id in ids}
    assert len(marks) == 2 * len(ids)
    assert all(0 <= mark < 1 << 128 for mark in marks)


def test_marks_of_elements_are_in_the_order_of_their_times() -> None:
    ids = [f"{new_id()[:-12]}{1_800_000_000_000 + ms:012x}" for ms in range(1000)]
    marks = [mark_of("consumer", id) for id in ids]
    assert marks == sorted(marks)
