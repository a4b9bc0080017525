"""Queues and buckets that are there already, under names that a stack is to create: whose they are, asked of AWS."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import boto3
import pytest

from buildflow.errors import ResourceFailed
from buildflow.provision.cloud.steps import Step, Steps
from buildflow.provision.cloud.taken import refuse_taken
from tests.moto import KEYS, REGION, Moto, moto, session_on

OURS = {"buildflow:project": "shop", "buildflow:stack": "aws"}


@pytest.fixture(scope="module")
def server() -> Iterator[Moto]:
    with moto() as made:
        yield made


@pytest.fixture
def aws(server: Moto) -> Moto:
    server.forget()
    return server


def creating(*names: str, region: str = REGION, verb: str = "create") -> Steps:
    steps = Steps()
    for name in names:
        after = {"name": name, "region": region}
        steps.found[name] = Step(name, "aws:sqs/queue:Queue", f"key-of-{name}", "SQSQueue", verb, after=after)  # type: ignore[arg-type]
    return steps


def creating_bucket(name: str, region: str = REGION) -> Steps:
    steps = Steps()
    after = {"bucket": name, "region": region}
    steps.found["urn"] = Step("urn", "aws:s3/bucket:Bucket", "files", "S3Bucket", "create", after=after)
    return steps


def refused(steps: Steps, aws: Moto, folder: Path, begun: Iterable[str] = ()) -> list[str]:
    session = session_on(aws, folder)
    try:
        refuse_taken(steps, session, lambda: set(begun))
    except ResourceFailed as exc:
        return str(exc).splitlines()
    finally:
        session.close()
    return []


def test_all_that_are_taken_are_told_and_none_but_these(aws: Moto, tmp_path: Path) -> None:
    names = [f"shop-aws-q{n}" for n in range(30)]
    for name in names[3:5]:
        aws.client("sqs").create_queue(QueueName=name)
    aws.client("sqs").create_queue(QueueName="shop-aws-q", tags=OURS | {"buildflow:stack": "eu"})
    aws.client("sqs").create_queue(QueueName="shop-aws-q6", tags=OURS)
    assert refused(creating(*names), aws, tmp_path) == [
        f'SQSQueue "key-of-{name}": there is a queue "{name}" already, which no stack made' for name in names[3:5]
    ]
    assert refused(creating("shop-aws-q"), aws, tmp_path) == [
        'SQSQueue "key-of-shop-aws-q": there is a queue "shop-aws-q" already, of the stack "eu" of "shop"'
    ]


@pytest.mark.parametrize("name", ["aaa", "shop-aws-b", "shop-aws-b.fifo", "zzz"])
def test_names_that_have_nothing_in_common_are_found_too(name: str, aws: Moto, tmp_path: Path) -> None:
    fifo = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
    aws.client("sqs").create_queue(QueueName=name, Attributes=fifo)
    steps = creating("shop-aws-a", "shop-aws-b", "shop-aws-b.fifo", "aaa", "zzz")
    assert [words for words in refused(steps, aws, tmp_path) if f'"{name}" already' in words] != []
    assert len(refused(steps, aws, tmp_path)) == 1


def test_more_than_a_page_of_queues(aws: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buildflow.provision.cloud.taken._PAGE", 3)
    names = [f"shop-aws-q{n}" for n in range(8)]
    for name in names:
        aws.client("sqs").create_queue(QueueName=name)
    assert len(refused(creating(*names), aws, tmp_path)) == 8


@pytest.mark.parametrize("region", [REGION, "us-east-1"])
def test_a_bucket_of_ones_own_account(region: str, aws: Moto, tmp_path: Path) -> None:
    """In us-east-1 AWS would give it to who creates it again."""
    s3 = boto3.client("s3", region_name=region, endpoint_url=aws.url, **KEYS)
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket="shop-aws-files", **place)
    steps = creating_bucket("shop-aws-files", region)
    taken = 'S3Bucket "files": there is a bucket "shop-aws-files" already, '
    assert refused(steps, aws, tmp_path) == [f"{taken}which no stack made"]
    assert refused(steps, aws, tmp_path, begun=["urn"]) == [], "it has its tags a moment after it is made"
    assert refused(creating_bucket("shop-aws-other", region), aws, tmp_path) == []
    for stack, words in {"eu": [f'{taken}of the stack "eu" of "shop"'], "aws": []}.items():
        tags = [{"Key": name, "Value": value} for name, value in (OURS | {"buildflow:stack": stack}).items()]
        s3.put_bucket_tagging(Bucket="shop-aws-files", Tagging={"TagSet": tags})
        assert refused(steps, aws, tmp_path) == words


def test_one_of_another_region_or_of_a_stack_that_keeps_it_is_not_in_the_way(aws: Moto, tmp_path: Path) -> None:
    aws.client("sqs").create_queue(QueueName="shop-aws-a")
    assert refused(creating("shop-aws-a", region="us-east-1"), aws, tmp_path) == []
    assert refused(creating("shop-aws-a", verb="update"), aws, tmp_path) == []
    assert refused(creating("shop-aws-a", verb="replace"), aws, tmp_path) != []
