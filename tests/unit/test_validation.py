"""pydantic's complaints in words: a field each, no addresses."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from buildflow.validation import in_words, json_reader


class Strict(BaseModel, extra="forbid"):
    id: int
    tags: list[str] = []

    @field_validator("id")
    @classmethod
    def positive(cls, value: int) -> int:
        if value < 1:
            raise ValueError("ids begin at 1")
        return value


@pytest.mark.parametrize(
    ("annotation", "text", "words"),
    [
        (Strict, b"{}", '"id" is missing'),
        (Strict, b'{"id": 0}', '"id": ids begin at 1, not 0'),
        (Strict, b'{"id": 1, "idd": 2}', 'there is no field "idd"'),
        (Strict, b'{"id": 1, "tags": ["a", {}]}', '"tags.1": input should be a valid string'),
        (Strict, b'{"id": "%s"}' % (b"x" * 99), '"id": input should be a valid integer, unable to parse string'),
        (int, b'"x"', "input should be a valid integer"),
        (list[int], b"[1, null]", '"1": input should be a valid integer, not null'),
        (Strict, b"{", "invalid JSON: EOF while parsing an object at line 1 column 1"),
    ],
)
def test_complaints(annotation: Any, text: bytes, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        json_reader(annotation)(text)
    said = in_words(caught.value)
    assert said.startswith(words)
    assert "\n" not in said
    assert "http" not in said
    assert len(said) < 120


def test_another_exception_is_its_text() -> None:
    assert in_words(ValueError("no\nnumber")) == "no\nnumber"
