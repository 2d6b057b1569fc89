"""ASGI 3.0: the types of an application, which asgiref names but leaves untyped, and responses made without Django."""

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from core.problems import CONTENT_TYPE, RETRY_AFTER_SECONDS, problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
HeaderLine = tuple[bytes, bytes]


async def send_response(send: Send, status: int, headers: Iterable[HeaderLine], body: bytes = b"") -> None:
    """Send a whole response. `headers` are complete, Content-Length included."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def send_problem(
    send: Send, status: int, code: str, detail: str, *, headers: Iterable[HeaderLine] = (), head: bool = False
) -> None:
    """Send problem details (RFC 9457), with Retry-After for 503. `head` omits the body, as the response to HEAD does."""
    body = json.dumps(problem(status, code, detail)).encode()
    lines = [
        (b"content-type", CONTENT_TYPE.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *headers,
    ]
    if status == 503:
        lines.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
    await send_response(send, status, lines, b"" if head else body)
