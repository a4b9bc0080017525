"""What every text of a process passes before it leaves: each secret that the process has resolved becomes stars."""

import json
import re
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

STARS = "********"
SHORTEST = 4
"""Characters. A shorter value would star half of every text."""


class Mask:
    """Texts without the secrets that were resolved. It takes no lock: a process may fork while a thread logs."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._pattern = re.compile(r"(?!)")
        self._known = 0

    def add(self, secret: str) -> None:
        """Star this value from now on, also as it looks quoted, in JSON and in a URL."""
        self._values.update(form for form in _forms(secret) if len(form) >= SHORTEST)

    def __call__(self, text: str) -> str:
        if self._known != len(self._values):
            values = self._values.copy()
            longest_first = sorted(values, key=len, reverse=True)  # one secret may begin another
            self._pattern, self._known = re.compile("|".join(map(re.escape, longest_first))), len(values)
        return self._pattern.sub(STARS, text)

    def __repr__(self) -> str:
        return f"Mask({len(self._values)} texts)"


masked = Mask()
"""The process's own: `masked(text)`. Forked children keep what their parent knew."""


def _forms(secret: str) -> Iterator[str]:
    for value in (secret.strip(), _password_in(secret)):
        yield value
        yield repr(value)[1:-1]
        yield json.dumps(value)[1:-1]
        yield quote(value, safe="")


def _password_in(secret: str) -> str:
    """The password of a secret that is a URL: clients name it alone in what they say."""
    try:
        return urlsplit(secret.strip()).password or ""
    except ValueError:
        return ""
