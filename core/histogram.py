"""How long things took, as plain numbers that cost their writer next to nothing. `gateway.metrics` tells them to Prometheus."""

from bisect import bisect_left
from typing import Final

# From what memory answers to what nobody waits for any more.
BOUNDS: Final = (
    *(5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


class LatencyHistogram:
    """How often something took up to each of BOUNDS and no less than the one before; the last number counts what took longer.

    The numbers only ever grow. One thread alone may write them, without a lock; others may read them at any time.
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0  # seconds

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds
