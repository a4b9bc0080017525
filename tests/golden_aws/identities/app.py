from buildflow.types import Bucket, FileChangeEvent


class Archive:
    def __init__(self, images: Bucket) -> None:
        self.images = images


class Payments:
    def __init__(self, token: str) -> None:
        self.token = token


def allowed(key: str) -> str:
    return key


def index() -> str:
    return "shop"


def order(id: int) -> dict:
    return {"id": id}


def images(archive: Archive) -> list[str]:
    return []


def classify(event: FileChangeEvent) -> dict:
    return {"path": event.path}


def save(order: dict) -> dict:
    return order


def bill(order: dict, payments: Payments) -> None:
    return None
