"""Where a stack's region comes from."""

from typing import Any

import pytest

from buildflow.providers.aws_credentials import session_of


@pytest.mark.parametrize(
    ("settings", "region"), [({}, "eu-west-1"), ({"region": "us-east-1"}, "us-east-1")], ids=["AWS_REGION", "the file"]
)
def test_the_environment_s_region_is_the_stack_s_where_the_file_names_none(
    settings: dict[str, Any], region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    keys = {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
    assert session_of({**settings, **keys}).session.region_name == region
