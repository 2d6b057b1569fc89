"""Answers `/metrics` for METRICS_TOKEN before Django, so that metrics can also be read while the database is lost.

Every other credential is one of a caller with the permission `metrics:read`, which only the database has (`gateway.views`).
"""

import asyncio
import hmac
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from django.conf import settings
from django.db import connection
from prometheus_client import Metric

from core.asgi import Application, HeaderLine, Receive, Scope, Send, send_problem, send_response
from core.postgresql.deadline import limit_waits
from gateway.database_metrics import counted, uncounted
from gateway.exposition import exposition

_PATH: Final = b"/metrics"
_DATABASE_SECONDS: Final = 3.0  # then the scrape is answered without what is counted; Prometheus waits for 10 by default


class MetricsEndpoint:
    """Answers requests with METRICS_TOKEN, and passes others on."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="metrics", initializer=limit_waits)
        self._counting: asyncio.Future[list[Metric]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the exact raw path, for any Host."""
        if scope.get("raw_path") != _PATH or not _has_token(scope["headers"]):
            await self._application(scope, receive, send)
            return
        if scope["method"] not in {"GET", "HEAD"}:
            detail = "Use GET to read the metrics."
            await send_problem(send, 405, "method-not-allowed", detail, headers=[(b"allow", b"GET, HEAD")])
            return
        accept = b",".join(value for name, value in scope["headers"] if name == b"accept").decode("latin-1")
        text, content_type = await asyncio.to_thread(exposition, accept, await self._counted())
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(text)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send_response(send, 200, headers, b"" if scope["method"] == "HEAD" else text)

    async def _counted(self) -> list[Metric]:
        """Return what the database counts. While it takes too long, every scrape is answered without it."""
        if self._counting is None or self._counting.done():
            self._counting = asyncio.get_running_loop().run_in_executor(self._thread, _count)
        try:
            async with asyncio.timeout(_DATABASE_SECONDS):
                return await asyncio.shield(self._counting)
        except TimeoutError:
            return uncounted()


def _has_token(headers: list[HeaderLine]) -> bool:
    values = [value for name, value in headers if name == b"authorization"]
    scheme, _, token = values[0].partition(b" ") if len(values) == 1 else (b"", b"", b"")
    expected = settings.METRICS_TOKEN.encode()
    return bool(expected) and scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), expected)


def _count() -> list[Metric]:
    try:
        return counted()
    finally:
        connection.close()
