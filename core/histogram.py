"""A histogram of durations as plain numbers, cheap to write to. `gateway.metrics` copies them into Prometheus' metrics."""

from bisect import bisect_left
from typing import Final

# Upper bounds in seconds: from a cache hit to a request that has timed out.
BOUNDS: Final = (
    *(5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


class LatencyHistogram:
    """Counts of durations, one for each of BOUNDS and a last one for longer durations.

    The numbers never decrease. Only one thread writes them, without a lock; any thread can read them at any time.
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0  # seconds

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds
