"""What Pulumi and AWS say, in words and with what to do."""

import pytest

from buildflow.provision.cloud.failures import in_words

SAID = """
 code: 255
 stdout: Updating (aws)
    pulumi:providers:aws aws-eu-west-1 same
 stderr: error: {message}
"""


@pytest.mark.parametrize(
    ("message", "words", "hint"),
    [
        ("incorrect passphrase", "incorrect passphrase", "that the stack was created with"),
        ("passphrase must be set with PULUMI_CONFIG_PASSPHRASE", "passphrase must be set", "secrets_provider"),
        (
            "creating S3 Bucket (b): operation error S3: CreateBucket, BucketAlreadyExists: taken",
            "BucketAlreadyExists",
            "another `name:`",
        ),
        ("deleting S3 Bucket (b): BucketNotEmpty: it is not", "BucketNotEmpty", "force_destroy"),
        ("No valid credential sources found", "No valid credential sources found", "aws configure"),
        ("ExpiredToken: The security token included in the request is expired", "ExpiredToken", "sign in again"),
        ("invalid AWS Region: mars-1", "invalid AWS Region: mars-1", "aws: {region"),
        (
            "unable to validate it.\nDetails: STS: dial tcp: lookup sts.mars-1.amazonaws.com: no such host",
            "STS: dial tcp: lookup sts.mars-1.amazonaws.com: no such host",
            "aws: {region",
        ),
        (
            "operation error S3: HeadBucket, https response error StatusCode: 301",
            "StatusCode: 301",
            "in another region",
        ),
        ("api error AccessDenied: User is not authorized to perform: s3:CreateBucket", "s3:CreateBucket", "permission"),
        ('Preview failed: resource "urn:x" cannot be deleted\nbecause it is protected.', "it is protected", "deletion"),
        ("<{%reset%}>something new<{%reset%}>", "something new", ""),
    ],
)
def test_a_failure_is_told_by_the_line_that_says_why(message: str, words: str, hint: str) -> None:
    told, cure = in_words(SAID.format(message=message))
    assert words in told
    assert hint in cure
    assert "stdout" not in told
    assert "<{%" not in told
