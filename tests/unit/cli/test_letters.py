"""Dead letters in groups, and by the beginnings of their ids."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from buildflow.cli.letters import MOST_GROUPS, chosen, group_row, grouped, letter_json, one, tell_apart
from buildflow.errors import UnknownName
from buildflow.types import DeadLetter

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def letter(id: str, error: str = "ValueError: no", *, minutes: int = 0, payload: bytes = b"{}") -> DeadLetter:
    at = NOON + timedelta(minutes=minutes)
    return DeadLetter(id, "save", "orders", error, "Traceback", 5, payload, "{}", at, at)


class Store:
    """What `chosen` and `one` need of a store."""

    def __init__(self, *letters: DeadLetter) -> None:
        self.letters = letters

    def each(self) -> Iterator[DeadLetter]:
        return iter(self.letters)

    def begun(self, id: str) -> list[DeadLetter]:
        return [letter for letter in self.letters if letter.id.startswith(id)]


def test_the_largest_group_comes_first_with_its_times_and_some_ids() -> None:
    found = grouped([letter("a", "KeyError: x"), *(letter(f"b{n}", minutes=9 - n) for n in range(5))])
    assert [(g.error, g.count) for g in found] == [("ValueError: no", 5), ("KeyError: x", 1)]
    assert (found[0].first_seen, found[0].last_seen) == (NOON + timedelta(minutes=5), NOON + timedelta(minutes=9))
    assert found[0].ids == ["b0", "b1", "b2"]
    assert group_row(found[0])["error"] == "ValueError: no\n2026-01-02 12:05:00 to 12:09:00\nb0 b1 b2 …"


def test_a_group_is_the_class_and_the_first_line() -> None:
    found = grouped([letter("a", "ValueError: no\nat 1"), letter("b", "ValueError: no\nat 2")])
    assert [(g.error, g.count) for g in found] == [("ValueError: no", 2)]


def test_errors_of_which_no_two_are_alike_need_no_more_memory() -> None:
    found = grouped(letter(str(n), f"LookupError: no order {n}") for n in range(5 * MOST_GROUPS))
    assert len(found) == MOST_GROUPS + 1
    assert (found[0].error, found[0].count) == ("LookupError", 4 * MOST_GROUPS)


def test_letters_are_chosen_by_their_error_s_beginning_or_as_it_is_shown() -> None:
    store = Store(letter("a", "ValueError: " + "x" * 400), letter("b", "KeyError: 1"))
    assert [x.id for x in chosen(store, [], "ValueError")] == ["a"]  # type: ignore[arg-type]
    shown = group_row(grouped(store.letters)[0])["error"].splitlines()[0]
    assert shown.endswith("…")
    assert [x.id for x in chosen(store, [], shown)] == ["a"]  # type: ignore[arg-type]
    assert [x.id for x in chosen(store, [], None)] == ["a", "b"]  # type: ignore[arg-type]
    assert [x.id for x in chosen(store, ["b", "b"], None)] == ["b"]  # type: ignore[arg-type]


def test_an_id_is_found_by_its_beginning_and_exactly() -> None:
    store = Store(letter("order-1"), letter("order-11"), letter("x"))
    assert one(store, "order-1").id == "order-1"  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match='"order-" is the beginning of 2 ids'):
        one(store, "order-")  # type: ignore[arg-type]


def test_of_an_element_that_died_twice_the_last_death_counts() -> None:
    store = Store(letter("a", "KeyError: 1"), letter("a", "ValueError: 2", minutes=1))
    assert one(store, "a").error == "ValueError: 2"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ids", "length"),
    [
        ([], 8),
        (["a"], 8),
        (["order-0001", "order-0002"], 10),
        (["order", "order-0001"], 8),
        (["ab" * 16, "ac" * 16], 8),
    ],
)
def test_ids_are_shown_as_far_as_they_differ(ids: list[str], length: int) -> None:
    assert tell_apart(ids) == length


def test_a_payload_that_is_no_text_is_base64() -> None:
    assert letter_json(letter("a", payload=b"\xff"))["payload"] == "/w=="
    assert letter_json(letter("a", payload=b"\xff"))["payload_encoding"] == "base64"
    assert letter_json(letter("a", payload="é".encode()))["payload"] == "é"
