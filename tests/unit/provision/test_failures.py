"""What Pulumi and AWS say, in words and with what to do."""

from pathlib import Path

import pytest

from buildflow.errors import ResourceFailed
from buildflow.provision.cloud.aws_provider import refuse_nowhere
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
        (
            "creating SNS Topic (t): InvalidParameter: Tags Reason: Topic already exists with different tags",
            "already exists with different tags",
            "another `name:`",
        ),
        ("deleting S3 Bucket (b): BucketNotEmpty: it is not", "BucketNotEmpty", "force_destroy"),
        ("No valid credential sources found", "No valid credential sources found", "aws configure"),
        ("ExpiredToken: The security token included in the request is expired", "ExpiredToken", "sign in again"),
        (
            "Details: missing region configuration\nMake sure you have set your AWS region",
            "missing region",
            "AWS_REGION",
        ),
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
        ("pulumi:providers:aws (aws):\n    error: something new\n", "something new", ""),
        (
            'validating: Post "http://localhost:5999/": dial tcp [::1]:5999: connect: connection refused',
            "localhost:5999",
            "see that localhost:5999 can be reached",
        ),
        (
            'operation error STS: Could not connect to the endpoint URL: "http://localhost:5999/"',
            "http://localhost:5999/",
            "AWS_ENDPOINT_URL",
        ),
        (
            'Post "https://sts.eu-west-1.amazonaws.com/": dial tcp 1.2.3.4:443: i/o timeout',
            "https://sts.eu-west-1.amazonaws.com/",
            "whether AWS can be reached",
        ),
    ],
)
def test_a_failure_is_told_by_the_line_that_says_why(message: str, words: str, hint: str) -> None:
    told, cure = in_words(SAID.format(message=message))
    assert words in told
    assert hint in cure
    assert "stdout" not in told
    assert "<{%" not in told


TRACEBACK = """
 code: 1
 stdout:
 stderr: Traceback (most recent call last):
  File "cli.py", line 1, in <module>
    main()
KeyError: 'first'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "cli.py", line 2, in main
    lock()

OSError: [Errno 28] No space left on device
"""


def test_of_a_traceback_the_last_line_is_told() -> None:
    assert in_words(TRACEBACK) == ("OSError: [Errno 28] No space left on device", "")


def test_the_region_is_blamed_for_a_host_of_aws_alone() -> None:
    _, cure = in_words('error: Post "http://localhost:5999/": dial tcp: connect: connection refused')
    assert "region" not in cure


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which nothing says where and as whom AWS is asked; its configuration."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return tmp_path / "config"


def test_no_region_and_no_such_profile_are_refused_before_pulumi_is_asked(nowhere: Path) -> None:
    with pytest.raises(ResourceFailed, match="nor a profile names a region") as found:
        refuse_nowhere({})
    assert "AWS_REGION" in found.value.hint
    with pytest.raises(ResourceFailed, match=r"profile \(nope\) could not be found") as found:
        refuse_nowhere({"profile": "nope", "region": "eu-west-1"})
    assert "~/.aws/config" in found.value.hint


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_the_environment_names_a_region(variable: str, nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "eu-west-1")
    refuse_nowhere({})


def test_the_stack_and_its_profile_name_a_region(nowhere: Path) -> None:
    refuse_nowhere({"region": "eu-west-1"})
    nowhere.write_text("[profile ours]\nregion = eu-west-1\n")
    refuse_nowhere({"profile": "ours"})
