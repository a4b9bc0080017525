"""A queue that others have under a name of ours.

SQS gives whoever creates a queue the one that is there, and this stack would then change it, and delete it with all
that it holds. What else has a name AWS refuses to create twice.
Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from buildflow.errors import ResourceFailed
from buildflow.providers.aws import AwsSession, at_once
from buildflow.provision.cloud.steps import Step, Steps

_QUEUE = "aws:sqs/queue:Queue"
_PAGE = 1000


def refuse_taken(steps: Steps, session: AwsSession) -> None:
    """Raise `ResourceFailed` where a queue that these steps create exists, and does not bear this stack's tags. One
    that does was made by an `apply` that was interrupted, and is taken up."""
    made: dict[str | None, list[Step]] = defaultdict(list)
    for step in steps.found.values():
        if step.type == _QUEUE and step.verb in ("create", "replace"):
            made[step.after.get("region")].append(step)
    taken = [words for region, queues in made.items() for words in _taken(queues, region, session)]
    if taken:
        raise ResourceFailed(
            "\n".join(taken),
            hint="give the primitive another `name:`, or refer to what exists with `managed: false`",
        )


def _taken(queues: Sequence[Step], region: str | None, session: AwsSession) -> list[str]:
    """Those of these queues that exist and are not ours, a sentence each."""
    there = _those_there([step.after["name"] for step in queues], region, session)
    met = [step for step in queues if step.after["name"] in there]
    whose = at_once(lambda step: _whose(there[step.after["name"]], region, session), met)
    return [
        f'{step.label} "{step.owner}": there is a queue "{step.after["name"]}" already, {who}'
        for step, who in zip(met, whose, strict=True)
        if who
    ]


def _those_there(names: Sequence[str], region: str | None, session: AwsSession) -> Mapping[str, str]:
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


def _whose(url: str, region: str | None, session: AwsSession) -> str:
    """Whose a queue is, in words; "" where it is ours, or gone by now."""
    sqs = session.client("sqs", region)
    with session.spoken("sqs", f'queue "{url.rpartition("/")[2]}"'):
        try:
            tags = sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
        except sqs.exceptions.QueueDoesNotExist:
            return ""
    project, stack = tags.get("buildflow:project"), tags.get("buildflow:stack")
    if (project, stack) == (session.graph.project, session.graph.stack):
        return ""
    return f'of the stack "{stack}" of "{project}"' if project and stack else "which no stack made"
