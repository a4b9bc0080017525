"""A stack's `aws:` block signs in the run time and Pulumi alike. (A role is taken by Pulumi's provider: golden_aws,
sign_in; at run time: test_aws_secrets.py.)"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from buildflow.cli.infrastructure import _credentials
from buildflow.providers.aws_credentials import session_of

OWN = {"aws_access_key_id": "OWN", "aws_secret_access_key": "own", "aws_session_token": "own-token"}
FILES = """
[default]
aws_access_key_id = DEFAULT
aws_secret_access_key = default

[ours]
aws_access_key_id = PROFILE
aws_secret_access_key = profile
aws_session_token = profile-token
"""
THEIRS = {"AWS_ACCESS_KEY_ID": "ENVIRONMENT", "AWS_SECRET_ACCESS_KEY": "theirs", "AWS_SESSION_TOKEN": "their-token"}
ASK = "import boto3, json; print(json.dumps(boto3.Session().get_credentials().get_frozen_credentials()))"
"""What a program finds that is started with an environment, as Pulumi's provider is."""


@pytest.mark.parametrize(
    ("settings", "environment", "found"),
    [
        (OWN, {}, ["OWN", "own", "own-token"]),
        (OWN, THEIRS, ["OWN", "own", "own-token"]),
        ({"profile": "ours"}, {}, ["PROFILE", "profile", "profile-token"]),
        ({"profile": "ours"}, THEIRS, ["PROFILE", "profile", "profile-token"]),
        ({}, THEIRS, ["ENVIRONMENT", "theirs", "their-token"]),
        ({}, {"AWS_PROFILE": "ours"}, ["PROFILE", "profile", "profile-token"]),
        ({}, {}, ["DEFAULT", "default", None]),
    ],
)
def test_the_run_time_and_pulumi_sign_in_alike(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    environment: dict[str, str],
    found: list[str | None],
) -> None:
    (tmp_path / "credentials").write_text(FILES)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = {"region": "eu-west-1", **settings}
    assert list(session_of(settings).session.get_credentials().get_frozen_credentials())[:3] == found
    asked = subprocess.run(
        [sys.executable, "-c", ASK],
        env={**os.environ, **_credentials(settings)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(asked.stdout)[:3] == found


def test_the_keys_of_a_stack_without_a_token_do_not_mix_with_another_s_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in THEIRS.items():
        monkeypatch.setenv(name, value)
    settings = {"region": "eu-west-1", "aws_access_key_id": "OWN", "aws_secret_access_key": "own"}
    assert list(session_of(settings).session.get_credentials().get_frozen_credentials())[:3] == ["OWN", "own", None]
    environment = {**os.environ, **_credentials(settings)}
    assert environment["AWS_ACCESS_KEY_ID"] == "OWN"
    assert not environment["AWS_SESSION_TOKEN"]
