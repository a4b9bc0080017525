from buildflow.types import Bucket, Queue


def store(body: dict, images: Bucket, jobs: Queue) -> dict: ...
