from buildflow.types import Bucket, FileChangeEvent


def resize(event: FileChangeEvent, images: Bucket): ...
