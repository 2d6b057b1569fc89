"""The ASGI lifespan: at shutdown, after the last response, the process writes what its background threads have collected."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from django.db import DatabaseError, connection, connections

from authn.proxy_header_middleware import ProxyHeaderMiddleware
from authn.proxy_headers import TrustPolicy
from core.asgi import Application, Receive, Scope, Send

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
