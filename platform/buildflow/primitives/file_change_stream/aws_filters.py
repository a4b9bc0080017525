"""Which streams of one bucket S3 refuses: two whose filters take the same event of the same object.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html
"""

from buildflow.ir.graph import Resource


def overlapping(one: Resource, other: Resource) -> str:
    """Why S3 refuses these streams of one bucket, in words; empty when it will not."""
    shared = [event for event in one.spec["events"] if event in other.spec["events"]]
    if not (shared and _prefixes_meet(one, other) and _suffixes_meet(one, other)):
        return ""
    bucket, events = one.references["bucket"], " and ".join(shared)
    words = f'"{one.key}" and "{other.key}" can both get the {events} events of one object in "{bucket}"'
    return f"{words}, and S3 sends them to one queue only"


def _prefixes_meet(one: Resource, other: Resource) -> bool:
    shorter, longer = sorted((one.spec["prefix"], other.spec["prefix"]), key=len)
    return bool(longer.startswith(shorter))


def _suffixes_meet(one: Resource, other: Resource) -> bool:
    shorter, longer = sorted((one.spec["suffix"], other.spec["suffix"]), key=len)
    return bool(longer.endswith(shorter))
