"""One example app for all the tests that only use it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import Running, example, running


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The image classification app, running in a fresh folder."""
    folder: Path = example(tmp_path_factory.mktemp("app"))
    with running(folder) as started:
        yield started.ready()
