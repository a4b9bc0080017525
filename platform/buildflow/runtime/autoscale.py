"""`replicas: {min, max, target_backlog}`: how many processes a pool should have.

By backlog and throughput, with hysteresis: it grows when the backlog stays above its target and would not be gone
soon anyway, at most to twice as many at once; it shrinks by one when the processes have had little to do for a while.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """What a pool looks like now. `busy` is the part of its processes that handle something, 0 to 1; `rate` is
    elements a second."""

    replicas: int
    backlog: int
    busy: float
    rate: float


class Autoscaler:
    GROW_AFTER = 2.0
    """Seconds that a backlog has to last."""
    SOON = 5.0
    """A backlog that is gone in so many seconds needs no further process."""
    SHRINK_AFTER = 30.0
    """Seconds that a process has to be superfluous."""
    SPARE = 0.7
    """How busy the processes that stay may become by one leaving."""

    def __init__(self, least: int, most: int, target_backlog: int) -> None:
        self.least = least
        self.most = most
        self.target = target_backlog
        self._short_since: float | None = None
        self._spare_since: float | None = None

    def wanted(self, sample: Sample) -> int:
        """What the figures ask for, now: also for a scaler that adds machines."""
        by_backlog = math.ceil(sample.backlog / self.target)
        soon_gone = sample.rate > 0 and sample.backlog / sample.rate < self.SOON
        if by_backlog > sample.replicas and not soon_gone:
            return min(max(by_backlog, self.least), self.most)
        enough = math.ceil(sample.busy * sample.replicas / self.SPARE)
        return min(max(by_backlog, enough, self.least), sample.replicas, self.most)

    def decide(self, sample: Sample, now: float) -> int:
        """The number of processes from now on. `now` is in seconds of any clock that does not go back."""
        wanted = self.wanted(sample)
        self._short_since = self._since(self._short_since, wanted > sample.replicas, now)
        self._spare_since = self._since(self._spare_since, wanted < sample.replicas, now)
        if self._short_since is not None and now - self._short_since >= self.GROW_AFTER:
            self._short_since = None
            return min(wanted, 2 * sample.replicas)
        if self._spare_since is not None and now - self._spare_since >= self.SHRINK_AFTER:
            self._spare_since = None
            return sample.replicas - 1
        return min(max(sample.replicas, self.least), self.most)

    @staticmethod
    def _since(since: float | None, holds: bool, now: float) -> float | None:
        if not holds:
            return None
        return now if since is None else since
