from dataclasses import dataclass


@dataclass
class Input:
    text: str


@dataclass
class Output:
    text: str
    words: int


def process(element: Input) -> Output:
    return Output(element.text, len(element.text.split()))
