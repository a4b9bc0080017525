"""A handler's module that cannot be imported: told with its line, and before anything is created."""

from pathlib import Path

from tests.harness import Running, platform, project, running

YAML = """
project: shop
primitives:
  drafts: {type: queue}
routes:
  GET /: broken_shop:index
consumers:
  check: {source: drafts, handler: broken_shop:check}
"""
BROKEN = """
def index() -> dict: return {}
def check(draft: dict) -> None: ...
first = second
"""
SENTENCE = "broken_shop:index cannot be imported: broken_shop.py:4: NameError: name 'second' is not defined"


def test_nothing_is_created(tmp_path: Path) -> None:
    project(tmp_path, YAML, broken_shop=BROKEN)
    refused = platform(tmp_path, "run", "--apply", "--port", "0")
    assert refused.returncode == 1
    assert f"error: {SENTENCE}" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert refused.stderr.count("cannot be imported") == 1
    assert not (tmp_path / ".buildflow" / "local" / "state.json").exists()


def test_what_is_applied_says_it_and_recovers(tmp_path: Path) -> None:
    project(tmp_path, YAML, broken_shop=BROKEN)
    assert platform(tmp_path, "apply", "--yes").returncode == 0
    with running(tmp_path) as app:
        app.wait_for_line(r"gateway is not ready: .*broken_shop.py:4: NameError: name 'second' is not defined")
        assert "Traceback" not in app.text
        (tmp_path / "broken_shop.py").write_text(BROKEN.replace("first = second", ""))
        Running.ready(app)
