"""What a machine without Redis is told, and what a fresh folder needs."""

from pathlib import Path

from tests.harness import example, platform


def test_without_a_redis_the_first_line_says_how_to_install_one(tmp_path: Path) -> None:
    result = platform(example(tmp_path), "run", "--apply", BUILDFLOW_REDIS_SERVER="/nowhere/redis-server")
    assert result.returncode == 1
    first = result.stderr.splitlines()[0]
    assert first.startswith("error: No Redis was found on this machine")
    assert "install" in first
    assert "Traceback" not in result.stderr


def test_a_command_in_a_folder_without_a_project_says_what_is_missing(tmp_path: Path) -> None:
    result = platform(tmp_path, "check")
    assert result.returncode == 1
    assert "there is no buildflow.yaml" in result.stderr
    assert "--file" in result.stderr
