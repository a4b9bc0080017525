"""What becomes stars in a process's texts, and what does not."""

import os
import threading

import pytest

from buildflow.providers.secret_mask import STARS, Mask


def masked(secret: str, text: str) -> str:
    mask = Mask()
    mask.add(secret)
    return mask(text)


def test_a_mask_that_knows_nothing_changes_nothing() -> None:
    assert Mask()("as it is") == "as it is"


@pytest.mark.parametrize(
    ("secret", "text", "shown"),
    [
        ("hunter2", "hunter2", STARS),
        ("hunter2", "a hunter2, b=hunter2;", f"a {STARS}, b={STARS};"),
        ("abc", "abc is too short to be starred everywhere", "abc is too short to be starred everywhere"),
        ("abcd", "abcd", STARS),
        ("   a", "   a", "   a"),
        ("", "nothing", "nothing"),
        ("a.b*c", "a.b*c, not axbbc", f"{STARS}, not axbbc"),
        (" hunter2\n", "read hunter2 from it", f"read {STARS} from it"),
    ],
)
def test_the_value_as_it_is(secret: str, text: str, shown: str) -> None:
    assert masked(secret, text) == shown


SECRET = 'line 1\n"line" 2\\ü'


@pytest.mark.parametrize(
    "text",
    [SECRET, repr(SECRET), '"line 1\\n\\"line\\" 2\\\\\\u00fc"', "line%201%0A%22line%22%202%5C%C3%BC"],
    ids=["plain", "quoted", "JSON", "URL"],
)
def test_the_value_as_others_write_it(text: str) -> None:
    shown = masked(SECRET, f"<{text}>")
    assert STARS in shown
    assert "line" not in shown


def test_the_password_of_a_secret_that_is_a_url() -> None:
    mask = Mask()
    mask.add("redis://shop:hunter2@cache.example.com:6379/0")
    mask.add("redis://[half")
    text = mask("redis://shop:hunter2@cache.example.com:6379/0 refuses hunter2 of cache.example.com")
    assert text == f"{STARS} refuses {STARS} of cache.example.com"


def test_of_secrets_that_begin_alike_the_longest_is_starred_whole() -> None:
    mask = Mask()
    for secret in ("hunter", "hunter2", "hunter2-long"):
        mask.add(secret)
    assert mask("hunter2-long hunter2 hunter") == f"{STARS} {STARS} {STARS}"


def test_many_threads_may_add() -> None:
    mask = Mask()
    secrets = [f"secret-number-{n}-" for n in range(400)]

    def add(part: int) -> None:
        for secret in secrets[part::8]:
            mask.add(secret)
            assert mask(secret) == STARS

    threads = [threading.Thread(target=add, args=(part,)) for part in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mask("".join(secrets)) == STARS * 400


def test_a_forked_child_knows_what_its_parent_knew() -> None:
    mask = Mask()
    mask.add("hunter2")
    child = os.fork()
    if child == 0:
        os._exit(0 if mask("hunter2") == STARS else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
