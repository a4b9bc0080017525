"""`platform run --reload`: a new version takes over; a broken one does not take the old one down."""

import json
from pathlib import Path

import pytest

from tests.harness import project, running, wait_for

pytestmark = pytest.mark.slow

YAML = "project: fresh\nroutes: {GET /: app:index}\n"
APP = "def index() -> dict:\n    return {'version': VERSION}\n"


def test_a_mistake_leaves_the_old_version_running_and_its_cure_takes_over(tmp_path: Path) -> None:
    project(tmp_path, YAML, app=APP.replace("VERSION", "1"))
    with running(tmp_path, "--reload") as app:
        app.ready()

        def version() -> int | None:
            try:
                return int(json.loads(app.get("/"))["version"])
            except OSError:
                return None  # between two versions

        assert version() == 1
        (tmp_path / "app.py").write_text("def index(:\n")
        app.wait_for_line("what runs goes on as it was")
        assert version() == 1
        (tmp_path / "app.py").write_text(APP.replace("VERSION", "2"))
        app.wait_for_line("changed; starting again")
        # the port was picked by the first version: the second one says its own
        urls = wait_for(lambda: (lines := [x for x in app.log if "open http" in x]) and len(lines) == 2 and lines)
        assert "http" in urls[1]
        assert app.stop() < 10
