"""Steps that a timeout's alarm may not break off half-way: it comes when they have ended.

A signal handler runs in the main thread between any two instructions, so what it raises could leave a lock taken
or a file half attached, for good.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Here(threading.local):
    """Per thread, so that a child forked inside another thread's step is not in one for ever."""

    depth = 0
    late: BaseException | None = None


_here = _Here()


@contextmanager
def whole() -> Iterator[None]:
    """What runs inside is not broken off. Also a decorator: `@whole()`."""
    _here.depth += 1
    try:
        yield
    finally:
        _here.depth -= 1
        if _here.late is not None and not _here.depth:
            late, _here.late = _here.late, None
            raise late


def interrupt(exc: BaseException) -> None:
    """For signal handlers: raise `exc` now, or at the end of the step that is under way."""
    if not _here.depth:
        raise exc
    _here.late = exc
