"""Slips of a hand, and the words that no slip may end at."""

import json
from functools import cache
from random import Random
from typing import Any

from tests.mutation.projects import ROOT

SCHEMA = ROOT / "schemas/buildflow.schema.json"


@cache
def language() -> frozenset[str]:
    """Every key and every value that the language has a word for."""
    found: set[str] = set()
    waiting: list[Any] = [json.loads(SCHEMA.read_text())]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            values = [*part.get("enum", ()), part.get("const"), *part.get("properties", ())]
            found |= {v.casefold() for v in values if isinstance(v, str)}
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return frozenset(found | {"get", "put", "post", "patch", "delete", "head", "options", "ws", "true", "false"})


NEAR = {
    **{"a": "sqz", "b": "vgn", "c": "xdv", "d": "sfe", "e": "wrd", "f": "dgr", "g": "fht", "h": "gjy", "i": "uok"},
    **{"j": "hku", "k": "jli", "l": "ko", "m": "nj", "n": "bmh", "o": "ipl", "p": "ol", "q": "wa", "r": "etf"},
    **{"s": "adw", "t": "ryg", "u": "yij", "v": "cbf", "w": "qes", "x": "zcs", "y": "tuh", "z": "xa"},
}
"""The keys beside a key, on a keyboard."""


def typo(word: str, chance: Random) -> str:
    """One slip of a hand: two letters swapped, one dropped, doubled, or the key beside it."""
    place = chance.choice([i for i, letter in enumerate(word) if letter.isalnum() or letter == "_"])
    letter, after = word[place], word[place + 1 : place + 2]
    match chance.randrange(4):
        case 0:
            changed = after + letter if after else letter
        case 1:
            changed = after
        case 2:
            changed = letter * 2 + after
        case _:
            changed = chance.choice(NEAR.get(letter.lower(), "x")) + after
    return word[:place] + changed + word[place + 2 :]
