"""Works on the jobs that this process started, one after the other, in a background thread.

A second thread renews their leases every second. Both start with the first job.
"""

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Final

from django.db import Error, InterfaceError, OperationalError, close_old_connections, connection

from accounts.models import Job, JobKind
from accounts.services import jobs
from core.errors import ServiceError, Unavailable
from core.postgresql.deadline import limit_waits
from core.problems import problem
from rbac.principals import Principal

STOP_SECONDS: Final = 4.0  # for the running job at the end of the process; after that, others would kill it
_MAX_JOBS: Final = 10  # of one process; each has its input in memory
_BEAT: Final = 1.0

logger = logging.getLogger("skyauth.jobs")


class JobStopped(Exception):
    """The job must not go on: the process stops, or others have found the lease expired."""


class RunningJob:
    """A job that this process works on or is about to."""

    def __init__(self, job: Job, work: "Work") -> None:
        self.job_id = job.pk
        self._work = work
        self._context = copy_context()  # of the request, for the log
        self._progress = (job.steps_done, job.steps)
        self._stopped = False

    def progress(self, done: int, steps: int) -> None:
        """Keep how many steps are done of how many, to be stored with the next renewal. Raises JobStopped."""
        self._progress = (done, steps)
        if not connection.in_atomic_block:
            close_old_connections()  # hashing takes minutes: a connection that is held meanwhile can be lost
        if self._stopped:
            raise JobStopped

    def complete(self, result: Any) -> None:
        """Mark the job as done in the transaction of its changes. Raises JobStopped, which rolls them back."""
        if not jobs.complete(self.job_id, result):
            raise JobStopped

    def fail(self, reason: dict[str, Any]) -> None:
        """Mark the job as failed with these problem details, unless it has ended."""
        jobs.fail(self.job_id, reason)

    def renew(self) -> None:
        """Renew the lease. A job that others have marked as failed stops at its next step."""
        if not jobs.renew(self.job_id, *self._progress):
            self._stopped = True

    def stop(self, message: str) -> None:
        """Fail the job, so that it cannot change anything any more."""
        self._stopped = True
        self.fail(problem(503, "stopped", message))

    def run(self) -> None:
        """Do the work, and mark the job as failed if it raises anything."""
        self._context.run(self._run)

    def _run(self) -> None:
        try:
            if jobs.begin(self.job_id):
                self._work(self)
        except JobStopped:
            logger.warning("Job %s was stopped before its end. Nothing was changed.", self.job_id)
        except ServiceError as error:
            self.fail(problem(error.status, error.code, error.message, error.fields))
        except (OperationalError, InterfaceError) as error:
            logger.warning("Job %s failed: %s", self.job_id, type(error).__name__)
            self.fail(problem(503, "unavailable", "The database did not answer. Nothing was changed. Start it again."))
        except Exception as error:  # noqa: BLE001 - whatever failed, the job ends
            _log_unexpected(self.job_id, error)
            self.fail(
                problem(500, "internal", "An unexpected error ended this job. Nothing was changed. The log has the reason.")
            )


def _log_unexpected(job_id: str, error: Exception) -> None:
    """Log where an error was raised, without its text, which can quote a row with a password."""
    logger.error("Job %s failed: %s\n%s", job_id, type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))


Work = Callable[[RunningJob], None]
"""Does a job: all of its changes in one transaction that calls `complete`, or none."""


class JobWorker:
    """The jobs of this process."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiting: deque[RunningJob] = deque()
        self._current: RunningJob | None = None
        self._started = self._stopping = False

    def start(self, *, actor: Principal, kind: JobKind, steps: int, key: str, content: str, work: Work) -> Job:
        """Return the job of this key, or a new one that does this work. Raises KeyReused, and Unavailable if too many wait."""
        if (job := jobs.job_of_key(actor=actor, key=key, content=content)) is not None:
            return job
        with self._condition:
            if self._stopping or len(self._waiting) >= _MAX_JOBS:
                raise Unavailable("This server has too many jobs, or is about to stop. Nothing was started. Try again shortly.")
        job, is_new = jobs.start_job(actor=actor, kind=kind, steps=steps, key=key, content=content)
        if is_new:
            self.put(RunningJob(job, work))
        return job

    def put(self, job: RunningJob) -> None:
        """Run the job after those that are waiting."""
        with self._condition:
            self._waiting.append(job)
            self._condition.notify_all()
            if not self._started:
                self._started = True
                for name, target in (("jobs", self._run), ("job-leases", self._renew)):
                    threading.Thread(target=target, name=name, daemon=True).start()

    def stop(self) -> None:
        """Let the running job end within STOP_SECONDS, and fail the others: at the end of the process."""
        with self._condition:
            self._stopping = True
            waiting, current = list(self._waiting), self._current
            self._waiting.clear()
        message = "The server was stopped before the end of this job. Nothing was changed. Start it again."
        for job in waiting:
            job.stop(message)
        with self._condition:
            ended = self._condition.wait_for(lambda: self._current is None, STOP_SECONDS)
        if not ended and current is not None:
            current.stop(message)

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._waiting and not self._stopping)
                self._current = job = self._waiting.popleft()
            try:
                close_old_connections()
                job.run()
                close_old_connections()
            except Error as error:  # it cannot be marked as failed; its lease expires
                logger.warning("Job %s failed: %s", job.job_id, type(error).__name__)
            except Exception as error:  # noqa: BLE001 - the others are done all the same
                _log_unexpected(job.job_id, error)
            with self._condition:
                self._current = None
                self._condition.notify_all()

    def _renew(self) -> None:
        limit_waits()
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._current is not None or self._waiting)
                active = [*filter(None, [self._current]), *self._waiting]
            try:
                close_old_connections()
                for job in active:
                    job.renew()
                close_old_connections()
            except Error as error:
                logger.warning("Leases of jobs were not renewed: %s", type(error).__name__, extra={"seldom": True})
            except Exception:  # the next renewal is another attempt
                logger.exception("Leases of jobs were not renewed.")
            time.sleep(_BEAT)


worker: Final = JobWorker()
