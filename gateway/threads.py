"""The threads that answer forward-auth requests from the database, and whether they still come back."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import get_ident
from time import monotonic
from typing import Final, ParamSpec, TypeVar

from core.postgresql.deadline import limit_waits, statement_seconds

THREADS: Final = 8  # each uses at most one database connection
_OVERDUE_SECONDS: Final = 15.0  # at least; every wait in these threads has a shorter time-out

P = ParamSpec("P")
R = TypeVar("R")


class VerifyThreads(ThreadPoolExecutor):
    """A thread pool that knows for how long each thread has been busy with one job."""

    def __init__(self) -> None:
        super().__init__(THREADS, thread_name_prefix="verify", initializer=limit_waits)
        self._began: dict[int, float] = {}  # by thread

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "Future[R]":
        """Run a job in one of the threads."""
        return super().submit(self._timed, partial(fn, *args, **kwargs))

    def _timed(self, job: Callable[[], R]) -> R:
        thread = get_ident()
        self._began[thread] = monotonic()
        try:
            return job()
        finally:
            del self._began[thread]

    @property
    def busy(self) -> int:
        """The number of threads that have a job."""
        return len(self._began)

    @property
    def overdue(self) -> int:
        """The number of threads whose job takes longer than the longest statement may take, and longer than 15 seconds."""
        limit = monotonic() - max(_OVERDUE_SECONDS, statement_seconds())
        return sum(began < limit for began in list(self._began.values()))

    @property
    def stuck(self) -> bool:
        """Whether all threads are overdue, so that no job will ever begin."""
        return self.overdue == THREADS
