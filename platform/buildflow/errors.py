"""The world's failures: what goes wrong outside the user's file. Only the CLI catches them.

A user's mistake is never one of these; it is a `Diagnostic`.
"""

from collections.abc import Sequence


class BuildflowError(Exception):
    """Something outside the project failed."""

    hint: str = ""

    def __init__(self, message: str | None = None, *, hint: str = "") -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        if hint:
            self.hint = hint


class ServiceUnavailable(BuildflowError):
    """A service that the stack needs cannot be reached."""


class RedisMissing(ServiceUnavailable):
    """No Redis was found on this machine."""


class LeadershipLost(ServiceUnavailable):
    """Another process leads now."""


class PortInUse(BuildflowError):
    """The port is taken by another program."""


class StateUnreadable(BuildflowError):
    """The recorded state of this stack cannot be read."""


class ResourceFailed(BuildflowError):
    """A resource could not be created, changed or deleted."""


class DataLossRefused(BuildflowError):
    """The change would lose data."""


class NotApplied(BuildflowError):
    """The stack has changes that were not applied."""


class UnknownName(BuildflowError):
    """No such thing in this project."""


class InvalidObjectName(BuildflowError):
    """The name would leave its bucket."""


class ObjectNotFound(BuildflowError):
    """No such object in the bucket."""


class InvalidRow(BuildflowError):
    """The row does not fit the table's columns."""

    fields: Sequence[tuple[tuple[str, ...], str]] = ()
    """What is wrong, each with the way to its column, as far as it is known."""


class BadMessage(InvalidRow):
    """The message is not what its queue or topic carries."""


class HandlerRejected(BuildflowError):
    """A handler or a dependency does not fit what the plan says of it."""


class DependencyFailed(BuildflowError):
    """A dependency could not be built."""
