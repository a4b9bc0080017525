"""Who is certainly dead, and who only might be."""

import subprocess
import sys

import psutil
import pytest

from buildflow.providers import process_identity


@pytest.fixture
def child() -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def test_we_live() -> None:
    assert not process_identity.is_dead(process_identity.own())


def test_two_names_of_one_process_differ() -> None:
    assert process_identity.own() != process_identity.own()


def test_a_killed_process_is_dead_before_its_parent_looks(child: "subprocess.Popen[bytes]") -> None:
    name = process_identity.own().split("/")
    name[1:3] = str(child.pid), process_identity._start_time(child.pid)
    with child:
        assert not process_identity.is_dead("/".join(name))
        child.kill()
        while psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
            pass
        assert process_identity.is_dead("/".join(name))
    assert process_identity.is_dead("/".join(name))


def test_a_pid_that_was_given_away_again_is_another_process() -> None:
    machine, pid, _, random = process_identity.own().split("/")
    assert process_identity.is_dead(f"{machine}/{pid}/1/{random}")


@pytest.mark.parametrize("name", ["", "worker", "elsewhere/1/2/3", "a/b/c/d/e"])
def test_nothing_is_said_of_other_machines(name: str) -> None:
    assert not process_identity.is_dead(name)
