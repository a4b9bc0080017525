"""The random provider: what it made is kept in the checkpoint alone."""

import secrets
import string
from typing import Any

from pulumi_cli.providers.handler import Handler
from pulumi_cli.values import Properties

SPECIAL = "!@#$%&*()-_=+[]{}<>:?"
SETS = {
    "lower": string.ascii_lowercase,
    "upper": string.ascii_uppercase,
    "numeric": string.digits,
    "special": SPECIAL,
}


class RandomPassword(Handler):
    token = "random:index/randomPassword:RandomPassword"
    noun = "random password"
    required = ("length",)
    minimums = ("minLower", "minUpper", "minNumeric", "minSpecial")
    optional = (*SETS, *minimums, "overrideSpecial", "keepers")
    defaults = {**dict.fromkeys(SETS, True), **dict.fromkeys(minimums, 0)}
    replace_on = (*required, *optional)
    regional = False

    def create(self, cloud: Any, inputs: Properties) -> str:
        return "none"

    def read(self, cloud: Any, id: str, known: Properties) -> Properties | None:
        """Made when there is none yet; never made again."""
        return {"result": known.get("result") or _text(known)}

    def delete(self, cloud: Any, id: str, known: Properties) -> None:
        """There is nothing outside of the checkpoint."""


class RandomString(RandomPassword):
    token = "random:index/randomString:RandomString"
    noun = "random string"


def _text(inputs: Properties) -> str:
    sets = {name: letters for name, letters in SETS.items() if inputs.get(name)}
    if "special" in sets and inputs.get("overrideSpecial"):
        sets["special"] = inputs["overrideSpecial"]
    chosen = [
        secrets.choice(letters)
        for name, letters in sets.items()
        for _ in range(inputs.get(f"min{name.capitalize()}", 0))
    ]
    every = "".join(sets.values())
    chosen += [secrets.choice(every) for _ in range(inputs["length"] - len(chosen))]
    secrets.SystemRandom().shuffle(chosen)
    return "".join(chosen)


HANDLERS: tuple[Handler, ...] = (RandomPassword(), RandomString())
