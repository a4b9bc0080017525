"""The SDK's event loops end with the test that made them."""

from collections.abc import Iterator

import pytest

from tests.stand_ins import close_loops


@pytest.fixture(autouse=True)
def _no_loop_is_left() -> Iterator[None]:
    yield
    close_loops()
