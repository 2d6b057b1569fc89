"""The verify endpoint as a small ASGI layer of its own, in front of Django's handler and without its machinery."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from django.db import close_old_connections

from accounts.gate import OVERSIZED_KEY, SCOPE_KEY, Application, Receive, Scope, Send
from accounts.trust import Proxied
from gateway.headers import Answer, refused, unavailable
from gateway.verify import judge

PATH: Final = b"/authz/verify"
PATIENCE_SECONDS: Final = 8.0  # then 503: a database that is gone must not make a queue of everybody
THREADS: Final = 8  # each keeps a database connection of its own


class VerifyLine:
    """Answers PATH; hands everything else on. Works behind `accounts.gate.Gate` only: without it every request is refused."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="verify")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Judge, or pass on. The raw path decides, so that no encoding of another path is taken for this one."""
        if scope.get("raw_path", b"") == PATH:
            loop = asyncio.get_running_loop()
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    answer = await loop.run_in_executor(self._threads, _judge, scope)
            except TimeoutError:  # what had not begun is taken out of the queue
                answer = unavailable()
            await _send(send, answer)
        elif scope.get(OVERSIZED_KEY, True):
            await _send(send, refused("headers-too-large", "The header section is too large to be looked at."), status=431)
        else:
            await self._application(scope, receive, send)


def _judge(scope: Scope) -> Answer:
    """Judge in a worker thread, on a database connection that is alive."""
    proxied = scope.get(SCOPE_KEY)
    close_old_connections()
    try:
        return judge(
            scope["headers"],
            proxied if isinstance(proxied, Proxied) else Proxied(),
            oversized=scope.get(OVERSIZED_KEY, True),
        )
    finally:
        close_old_connections()


async def _send(send: Send, answer: Answer, *, status: int | None = None) -> None:
    await send({"type": "http.response.start", "status": status or answer.status, "headers": list(answer.headers)})
    await send({"type": "http.response.body", "body": answer.body})
