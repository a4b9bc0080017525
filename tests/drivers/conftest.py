"""AWS for the drivers' tests: one moto server for each module, started when a test asks for it."""

from collections.abc import Iterator

import pytest

from tests.moto import Moto, moto


@pytest.fixture(scope="module")
def aws() -> Iterator[Moto]:
    with moto() as server:
        yield server
