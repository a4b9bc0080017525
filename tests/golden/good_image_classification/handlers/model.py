from pathlib import Path


class Classifier:
    def __init__(self, weights: Path) -> None: ...

    def classify(self, image: bytes) -> list[tuple[str, float]]: ...


def load_model(weights: str) -> Classifier:
    return Classifier(Path(weights))
