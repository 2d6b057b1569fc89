"""The probes: `/healthz`, alive; `/readyz`, fit to answer. Open to everybody, and of no use for anything else.

They are answered before Django: under whatever Host a probe asks, and also while all places for Django's work are taken.
"""

import asyncio
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from django.db import connection

from core.asgi import Application, Receive, Scope, Send
from core.problems import CONTENT_TYPE, RETRY_AFTER_SECONDS, problem
from doctor.checks import findings
from doctor.finding import Audience

READY_SECONDS: Final = 2.0  # then the answer is 503; Kubernetes itself waits a second unless told otherwise
_HOLDS_SECONDS: Final = 0.5  # a look costs milliseconds, and anybody may ask

logger = logging.getLogger("skyauth.health")


class Health:
    """Answers the probes; hands everything else on."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ready")
        self._look: asyncio.Future[str] | None = None
        self._since = 0.0
        self._lacks = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the exact raw path, whatever the headers say."""
        path = scope.get("raw_path")
        if path not in {b"/healthz", b"/readyz"}:
            await self._application(scope, receive, send)
        elif scope["method"] not in {"GET", "HEAD"}:
            await _send(scope, send, 405, problem(405, "method-not-allowed", "A probe asks with GET."))
        elif path == b"/healthz" or await self._ready():
            await _send(scope, send, 200)
        else:
            await _send(scope, send, 503, problem(503, "unavailable", "SkyAuth cannot answer requests now."))

    async def _ready(self) -> bool:
        """Return whether the database is there and up to date. What it lacks is for the log alone."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                lacks = await self._looked()
        except TimeoutError:
            lacks = "The database does not answer in time."
        if lacks != self._lacks:
            self._lacks = lacks
            logger.log(*((logging.WARNING, "Not ready: %s", lacks) if lacks else (logging.INFO, "Ready again.")))
        return not lacks

    async def _looked(self) -> str:
        """Return what the database lacks, or "". Whoever asks while somebody looks, or right after, is told the same."""
        loop = asyncio.get_running_loop()
        if self._look is None or (self._look.done() and loop.time() - self._since >= _HOLDS_SECONDS):
            self._look, self._since = loop.run_in_executor(self._thread, _look), loop.time()
        return await asyncio.shield(self._look)


def _look() -> str:
    """Return what the database lacks, or "", over a connection that is not kept: one that is kept may outlive its file."""
    try:
        return lacking()
    except Exception as error:  # noqa: BLE001 - whatever it is: not ready
        return f"The database cannot be used: {type(error).__name__}."
    finally:
        connection.close()


def lacking() -> str:
    """Return the first finding that makes SkyAuth unable to answer, with what to do, or "". Raises a database error."""
    found = findings(Audience.READINESS)
    return f"{found[0].text} {found[0].todo}" if found else ""


async def _send(scope: Scope, send: Send, status: int, told: dict[str, object] | None = None) -> None:
    body = json.dumps(told).encode() if told is not None else b"ok\n"
    headers = [
        (b"content-type", CONTENT_TYPE.encode() if told is not None else b"text/plain"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if status == 405:
        headers.append((b"allow", b"GET, HEAD"))
    if status == 503:
        headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
