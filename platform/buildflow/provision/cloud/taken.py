"""What others have under a name of ours, and AWS would give us when we create it: queues, and buckets in us-east-1.

This stack would then change it, and delete it with all that it holds. What else has a name AWS refuses to create
twice, but only when others have been made; buckets and queues are looked for before anything is.
Sources: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html
https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html#API_CreateBucket_Errors
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from buildflow.errors import ResourceFailed
from buildflow.providers.aws import AwsSession, at_once
from buildflow.provision.cloud.pending import bucket_tags
from buildflow.provision.cloud.steps import BUCKET, QUEUE, Step, Steps

_PAGE = 1000

Tags = Mapping[str, str]


def refuse_taken(steps: Steps, session: AwsSession, begun: Callable[[], set[str]]) -> None:
    """Raise `ResourceFailed` where a bucket or a queue that these steps create exists, and does not bear this stack's
    tags. What an interrupted command had `begun`, by URN, is taken up, tagged or not."""
    taken = [
        (step.urn, f'{step.label} "{step.owner}": there is a {noun} "{name}" already, {who}')
        for step, noun, name, tags in (*_buckets_there(steps, session), *_queues_there(steps, session))
        if (who := _whose(tags, session))
    ]
    ours = begun() if taken else set()
    refused = [words for urn, words in taken if urn not in ours]
    if refused:
        raise ResourceFailed(
            "\n".join(refused),
            hint="give the primitive another `name:`, or refer to what exists with `managed: false`",
        )


def _whose(tags: Tags, session: AwsSession) -> str:
    """Whose it is, in words; "" where it is ours."""
    project, stack = tags.get("buildflow:project"), tags.get("buildflow:stack")
    if (project, stack) == (session.graph.project, session.graph.stack):
        return ""
    return f'of the stack "{stack}" of "{project}"' if project and stack else "which no stack made"


Found = tuple[Step, str, str, Tags]
"""A step that creates what there is: what that is in a word, its name and its tags."""


def _made(steps: Steps, type: str) -> dict[str | None, list[Step]]:
    """The steps that create a type, by region."""
    made: dict[str | None, list[Step]] = defaultdict(list)
    for step in steps.found.values():
        if step.type == type and step.verb in ("create", "replace"):
            made[step.after.get("region")].append(step)
    return made


def _buckets_there(steps: Steps, session: AwsSession) -> Iterator[Found]:
    for region, buckets in _made(steps, BUCKET).items():
        names = [str(step.after["bucket"]) for step in buckets]
        tags = at_once(partial(_bucket_tags, session, region), names)
        yield from (
            (step, "bucket", name, found)
            for step, name, found in zip(buckets, names, tags, strict=True)
            if found is not None
        )


def _bucket_tags(session: AwsSession, region: str | None, name: str) -> Tags | None:
    """None where there is no such bucket. Another account's, or another region's, AWS refuses itself."""
    s3 = session.client("s3", region)
    with session.spoken("s3", f'bucket "{name}"'):
        try:
            s3.head_bucket(Bucket=name)
        except s3.exceptions.ClientError as exc:
            if exc.response["ResponseMetadata"].get("HTTPStatusCode") in (301, 403, 404):
                return None
            raise
        return bucket_tags(s3, name)


def _queues_there(steps: Steps, session: AwsSession) -> Iterator[Found]:
    for region, queues in _made(steps, QUEUE).items():
        urls = _queue_urls([str(step.after["name"]) for step in queues], region, session)
        met = [(step, name) for step in queues if (name := str(step.after["name"])) in urls]
        tags = at_once(partial(_queue_tags, session, region), [urls[name] for _, name in met])
        yield from (
            (step, "queue", name, found) for (step, name), found in zip(met, tags, strict=True) if found is not None
        )


def _queue_urls(names: Sequence[str], region: str | None, session: AwsSession) -> Mapping[str, str]:
    """The URLs of a region's queues that begin as all these names do, by their names: a request in all, where each
    name would be one."""
    beginning = _beginning(min(names), max(names))
    with session.spoken("sqs", "the names of queues"):
        pages = session.client("sqs", region).get_paginator("list_queues")
        narrowed = {"QueueNamePrefix": beginning} if beginning else {}
        found = pages.paginate(**narrowed, PaginationConfig={"PageSize": _PAGE})
        return {url.rpartition("/")[2]: url for page in found for url in page.get("QueueUrls", ())}


def _beginning(first: str, last: str) -> str:
    """What both begin with, and so all that are between them."""
    differing = (n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return first[: next(differing, len(first))]


def _queue_tags(session: AwsSession, region: str | None, url: str) -> Tags | None:
    """None where it is gone by now."""
    sqs = session.client("sqs", region)
    with session.spoken("sqs", f'queue "{url.rpartition("/")[2]}"'):
        try:
            tags: Tags = sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
        except sqs.exceptions.QueueDoesNotExist:
            return None
    return tags
