from buildflow.types import FileChangeEvent


def report(event: FileChangeEvent): ...
