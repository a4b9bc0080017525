"""A queue that others have under a name of ours.

SQS gives whoever creates a queue the one that is there, and this stack would then change it, and delete it with all
that it holds. What else has a name AWS refuses to create twice.
Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_CreateQueue.html
"""

from buildflow.errors import ResourceFailed
from buildflow.providers.aws import AwsSession, at_once
from buildflow.provision.cloud.steps import Step, Steps

_QUEUE = "aws:sqs/queue:Queue"


def refuse_taken(steps: Steps, session: AwsSession) -> None:
    """Raise `ResourceFailed` where a queue that these steps create exists, and does not bear this stack's tags. One
    that does was made by an `apply` that was interrupted, and is taken up."""
    made = [step for step in steps.found.values() if step.type == _QUEUE and step.verb in ("create", "replace")]
    whose = at_once(lambda step: _whose(step, session), made)
    taken = [
        f'{step.label} "{step.owner}": there is a queue "{step.after["name"]}" already, {who}'
        for step, who in zip(made, whose, strict=True)
        if who
    ]
    if taken:
        raise ResourceFailed(
            "\n".join(taken),
            hint="give the primitive another `name:`, or refer to what exists with `managed: false`",
        )


def _whose(step: Step, session: AwsSession) -> str:
    """Whose the queue of this name is, in words; "" where there is none, or it is ours."""
    name = step.after["name"]
    sqs = session.client("sqs", step.after.get("region"))
    with session.spoken("sqs", f'queue "{name}"'):
        try:
            tags = sqs.list_queue_tags(QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"]).get("Tags", {})
        except sqs.exceptions.QueueDoesNotExist:
            return ""
    project, stack = tags.get("buildflow:project"), tags.get("buildflow:stack")
    if (project, stack) == (session.graph.project, session.graph.stack):
        return ""
    return f'of the stack "{stack}" of "{project}"' if project and stack else "which no stack made"
