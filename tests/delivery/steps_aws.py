"""`steps` for sources on SQS. Copied into a project beside it."""

import json

try:
    import steps
except ModuleNotFoundError:  # in the repository
    from tests.delivery import steps

_number_of = steps.number_of


def number_of(body: bytes) -> int:
    """Of an element of any source, S3's included."""
    records = json.loads(body).get("Records")
    return int(records[0]["s3"]["object"]["key"]) if records else _number_of(body)


def install() -> str:
    """As `steps.install`, which wraps what Redis streams do."""
    from buildflow.primitives import redis_stream
    from buildflow.primitives.queue.sqs import SQSSource

    SQSSource.key = property(lambda source: source.queue.name)  # type: ignore[attr-defined]
    steps.number_of = number_of
    kept = redis_stream.RedisStream
    redis_stream.RedisStream = SQSSource  # type: ignore[misc, assignment]
    try:
        return steps.install()
    finally:
        redis_stream.RedisStream = kept  # type: ignore[misc]
