"""The regions of AWS that a file may name: all that there are, by their grammar, and no misspelt one."""

import re

import botocore.session
import pytest

from buildflow.spec.values import AWS_REGION


def test_every_region_that_botocore_knows_is_one() -> None:
    session = botocore.session.get_session()
    known = {
        region
        for partition in session.get_available_partitions()
        for service in ("s3", "sqs", "sns", "rds")
        for region in session.get_available_regions(service, partition)
    }
    assert len(known) > 30
    assert [region for region in known if not re.search(AWS_REGION, region)] == []


@pytest.mark.parametrize("text", ["us-esat-1", "eu-centrl-1", "us-east1", "us-east", "ap-southest-2", "useast-1"])
def test_what_points_nowhere_is_none(text: str) -> None:
    assert re.search(AWS_REGION, text) is None
