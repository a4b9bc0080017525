from buildflow.types import FileChangeEvent


def work(event: FileChangeEvent): ...
