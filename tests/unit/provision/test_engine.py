"""One stack's engine: what the program raises comes out of it, and a state that others changed is left alone."""

from pathlib import Path

import pulumi
import pytest

from buildflow.errors import ResourceFailed
from buildflow.provision.cloud.engine import Engine, Place, StateChanged
from tests.stand_ins import pulumi_environment


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name, value in pulumi_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    return Place("shop", "aws", tmp_path / "aws", f"file://{tmp_path / 'state'}")


def engine(place: Place, output: str = "a", raises: Exception | None = None) -> Engine:
    def program() -> None:
        pulumi.ComponentResource("buildflow:aws:S3Bucket", output)
        if raises is not None:
            raise raises

    return Engine(place, program, lambda *_: None, lambda _: None)


@pytest.mark.parametrize("raised", [ResourceFailed("there is none"), ZeroDivisionError("a bug of ours")])
def test_what_the_program_raises_comes_out(raised: Exception, place: Place) -> None:
    with pytest.raises(type(raised), match=str(raised)) as found:
        engine(place, raises=raised).preview()
    assert found.value is raised


def test_what_was_previewed_is_made_unless_others_changed_the_state(place: Place) -> None:
    ours = engine(place)
    ours.preview_up()
    ours.up(lambda *_: None)

    late = engine(place)
    late.preview_destroy()
    others = engine(place, "b")
    others.preview_up()
    others.up(lambda *_: None)
    for change in (late.up, late.destroy):
        with pytest.raises(StateChanged):
            change(lambda *_: None)
    late.preview_destroy()
    late.destroy(lambda *_: None)


RECORDER = """#!/bin/sh
echo "$PULUMI_BACKEND_URL $*" >> "$CALLS"
case "$*" in
  *version*) echo v3.200.0 ;;
  *select*) echo "error: no stack named 'aws' found" >&2; exit 255 ;;
  *) echo "error: it ends here" >&2; exit 255 ;;
esac
"""


@pytest.mark.parametrize(
    "url", ["file:///somewhere", "s3://our-state/shop", "gs://our-state", "https://api.pulumi.com"]
)
@pytest.mark.parametrize("provider", [None, "awskms://alias/shop"])
def test_every_kind_of_state_and_who_keeps_its_secrets_is_told_to_the_cli(
    url: str, provider: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/pulumi").write_text(RECORDER)
    (tmp_path / "bin/pulumi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    monkeypatch.setenv("PULUMI_BACKEND_URL", "file:///of-somebody-else")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    url = url.replace("/somewhere", str(tmp_path / "state"))
    place = Place("shop", "aws", tmp_path / "aws", url, secrets_provider=provider)
    with pytest.raises(ResourceFailed, match="it ends here"):
        engine(place).preview()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert all(call.startswith(f"{url} ") for call in calls if "version" not in call)
    init = next(call for call in calls if " init " in call)
    assert (f"--secrets-provider {provider}" in init) is (provider is not None)
