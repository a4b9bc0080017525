"""Which of several sinks a row goes to."""

from dataclasses import dataclass
from enum import Enum

import pytest

from buildflow.ir.runtime import SinkPlan
from buildflow.runtime.sinks import _test
from buildflow.types import Message


class Kind(Enum):
    TEA = "tea"


@dataclass
class Sale:
    item: str | Kind


@pytest.mark.parametrize(
    ("row", "goes"),
    [
        (Sale("tea"), True),
        (Sale(Kind.TEA), True),
        ({"item": "tea"}, True),
        (Message(Sale("tea")), True),
        (Message({"item": "coffee"}), False),
        (Sale("coffee"), False),
        ({"other": "tea"}, False),
        ("tea", False),
        (Message(b"tea"), False),
    ],
)
def test_a_row_whose_fields_are_asked_for(row: object, goes: bool) -> None:
    assert _test(SinkPlan(to="teas", fields={"item": "tea"}))(row) is goes
