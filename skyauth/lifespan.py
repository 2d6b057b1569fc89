"""The ASGI lifespan: a process does not start during a restore, and writes at shutdown what its background threads collected."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError, Error, connection, connections

from authn.proxy_header_middleware import ProxyHeaderMiddleware
from authn.proxy_headers import TrustPolicy
from core.asgi import Application, Receive, Scope, Send
from core.postgresql import restore_lock
from core.postgresql.deadline import waits_limited

RESTORE_IS_RUNNING: Final = "manage.py restore is replacing the database. Wait until it has ended."

logger = logging.getLogger("skyauth.lifespan")


class LifespanMiddleware(ProxyHeaderMiddleware):
    """The header filter, which also answers the events of the lifespan. At shutdown it calls each of `flushes`."""

    def __init__(self, application: Application, policy: TrustPolicy, flushes: Sequence[Callable[[], Any]]) -> None:
        super().__init__(application, policy)
        self._flushes = flushes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await super().__call__(scope, receive, send)
            return
        await receive()
        if await asyncio.to_thread(restore_is_running):
            await send({"type": "lifespan.startup.failed", "message": RESTORE_IS_RUNNING})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.to_thread(self._flush)  # not in the event loop, where Django refuses to use the database
        await send({"type": "lifespan.shutdown.complete"})

    def _flush(self) -> None:
        for flush in self._flushes:
            try:
                flush()
            except Exception:  # the others are tried all the same
                logger.exception("What was collected could not be written at shutdown.")
        if connection.vendor == "sqlite":
            with suppress(DatabaseError), connection.cursor() as cursor:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that a copy of the one file is complete
        connections.close_all()


def restore_is_running() -> bool:
    """Return whether a restore holds the lock of PostgreSQL; False if that cannot be known. For SQLite, `serve` holds a file.

    The pool keeps the connection, so a restore sees this process from now on.
    """
    if connection.vendor == "sqlite":
        return False
    try:
        with waits_limited(settings.DATABASE_TIMEOUT):
            return restore_lock.is_held()
    except Error:
        return False  # a lost database is no reason not to start: requests get 503 until it is found
    finally:
        connection.close()
