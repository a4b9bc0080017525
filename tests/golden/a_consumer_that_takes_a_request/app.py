from buildflow.requests import Request


def work(order: dict, request: Request): ...
