"""The health probes, open to everybody: `/healthz` (the process runs) and `/readyz` (it can answer requests).

They are answered before Django: for any Host, and also while all of Django's slots are taken. `/readyz` takes the way of a
forward-auth request: one of its threads, and a connection as such a thread uses it.
"""

import asyncio
import logging
from typing import Final

from django.db import connection

from core.asgi import Application, HeaderLine, Receive, Scope, Send, send_problem, send_response
from core.postgresql.deadline import waits_limited
from doctor.checks import findings
from doctor.finding import Audience
from gateway import metrics
from gateway.threads import VerifyThreads

READY_SECONDS: Final = 2.0  # then the answer is 503; Kubernetes waits for one second by default
_CACHED_SECONDS: Final = 0.5  # a check takes milliseconds, and anybody can request it
_OK: Final[tuple[HeaderLine, ...]] = (
    (b"content-type", b"text/plain"),
    (b"content-length", b"3"),
    (b"cache-control", b"no-store"),
)

logger = logging.getLogger("skyauth.health")


class Health:
    """Answers the probes, and passes other requests on."""

    def __init__(self, application: Application, threads: VerifyThreads) -> None:
        self._application = application
        self._threads = threads
        self._check: asyncio.Future[str] | None = None
        self._checked_at = 0.0
        self._fault = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the exact raw path; headers do not matter."""
        path = scope.get("raw_path")
        head = scope.get("method") == "HEAD"
        if path not in {b"/healthz", b"/readyz"}:
            await self._application(scope, receive, send)
        elif scope["method"] not in {"GET", "HEAD"}:
            await send_problem(send, 405, "method-not-allowed", "Use GET for a probe.", headers=[(b"allow", b"GET, HEAD")])
        elif path == b"/readyz" and scope.get("state", {}).get("stopping"):
            await send_problem(send, 503, "stopping", "SkyAuth is stopping. Send requests to another replica.", head=head)
        elif await self._ready() if path == b"/readyz" else self._alive():
            await send_response(send, 200, _OK, b"" if head else b"ok\n")
        else:
            await send_problem(send, 503, "unavailable", "SkyAuth cannot answer requests now.", head=head)

    def _alive(self) -> bool:
        """Return whether a thread is left for forward-auth requests, or will be. A restart helps if there is none."""
        stuck = self._threads.stuck
        if stuck:
            logger.error("No thread is left that can answer forward-auth requests.", extra={"seldom": True})
        return not stuck

    async def _ready(self) -> bool:
        """Return whether the database answers and is up to date. The reason goes to the log only."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                fault = await self._database_fault()
        except TimeoutError:
            fault = "The database does not answer in time."
        if fault != self._fault:
            self._fault = fault
            logger.log(*((logging.WARNING, "Not ready: %s", fault) if fault else (logging.INFO, "Ready again.")))
        metrics.report_ready(ready=not fault)
        return not fault

    async def _database_fault(self) -> str:
        """Return what is wrong with the database, or "". Concurrent calls share a check, and calls right after it its result."""
        loop = asyncio.get_running_loop()
        if self._check is None or (self._check.done() and loop.time() - self._checked_at >= _CACHED_SECONDS):
            self._check, self._checked_at = loop.run_in_executor(self._threads, _check_database), loop.time()
        return await asyncio.shield(self._check)


def _check_database() -> str:
    """Return what is wrong with the database, or "", over a new connection to SQLite, or a checked one of PostgreSQL's pool.

    The thread's connection to SQLite can lead to a file that was replaced.
    """
    connection.close()
    try:
        with waits_limited(READY_SECONDS):
            return lacking()
    except Exception as error:  # noqa: BLE001 - any error means not ready
        return f"The database cannot be used: {type(error).__name__}."
    finally:
        connection.close()


def lacking() -> str:
    """Return the first finding that makes SkyAuth unable to answer, with what to do, or "". Raises a database error."""
    faults = findings(Audience.READINESS)
    return f"{faults[0].text} {faults[0].todo}" if faults else ""
