"""Limits on what a client can make the server hold: the size of headers and bodies, and the number of concurrent requests.

uvicorn and httptools have no limits: an endless header grows in memory, an incomplete request waits for ever, a whole body is
spooled to disk, and each request in Django takes a thread.
"""

import asyncio
import socket
from typing import Any, Final

import uvicorn.server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from core.asgi import Application, HeaderLine, Receive, Scope, Send, send_problem

MAX_HEAD: Final = 65_536  # bytes; half of that already gets a refusal from the header filter
HEAD_SECONDS: Final = 10.0
MAX_BODY: Final = 6_000_000  # bytes: the largest import (5 MB), as JSON
BODY_SECONDS: Final = 30.0
MAX_RUNNING: Final = 16  # requests in Django
MAX_WAITING: Final = 200  # requests that wait for one of these to end
MAX_BODIES: Final = 64_000_000  # bytes of all bodies in memory
_CLOSE: Final[HeaderLine] = (b"connection", b"close")  # the rest of the body is not read


class ServerState(uvicorn.server.ServerState):
    """What the connections of a server share. While it is `draining`, each of them closes after its next response."""

    draining = False


class LimitedProtocol(HttpToolsProtocol):
    """Closes a connection whose request line and headers (the head) are too large or too slow, have a fragment, or lack a Host.

    While pipelined requests of a connection wait, nothing more is read from it.
    """

    server_state: ServerState

    _hosts = 0  # Host header lines of the head that is being parsed
    _in_head = True
    _head_ended = False  # whether a head or a message ended in the data that is being parsed
    _head_size = 0
    _head_timer: asyncio.TimerHandle | None = None
    _idle_timer: asyncio.TimerHandle | None = None
    _idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the time limit of the first head."""
        super().connection_made(transport)  # type: ignore[arg-type] # uvicorn's is narrower than asyncio's
        # A peer at a Unix socket has no address. Neither has one at TCP that has left already, and the two must differ.
        if (peer := transport.get_extra_info("socket")) is not None and peer.family == socket.AF_UNIX:
            self.client = ("unix", 0)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._abort)

    def data_received(self, data: bytes) -> None:
        """Count and time the bytes of a head, except those in data in which another head or message ended."""
        self._head_ended = False
        super().data_received(data)
        if not self._head_ended:
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                self._abort()
            elif self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_SECONDS, self._abort)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header as uvicorn does, and refuse trailers: the headers were filtered already."""
        if not self._in_head:
            raise ValueError("trailer")  # httptools raises a parser error, which uvicorn answers with 400
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        """Stop the time limit of the head. `RequestLimitMiddleware` limits bodies."""
        self._head_ended, self._head_size = True, 0
        self._stop_head_timer()
        super().on_body(body)

    def on_headers_complete(self) -> None:
        self._in_head, self._head_ended, self._head_size = False, True, 0
        self._stop_head_timer()
        hosts, self._hosts = self._hosts, 0
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):  # RFC 9112 section 3.2
            raise ValueError("host")  # 400, as above
        if b"#" in self.url:  # no request target has one (RFC 9112 section 3.2), and uvicorn would cut it off unseen
            raise ValueError("fragment")  # 400, as above
        self.begin()

    def begin(self) -> None:
        """Handle the request whose head is complete."""
        super().on_headers_complete()
        if self.server_state.draining:
            self.cycle.keep_alive = False  # uvicorn then writes `Connection: close`

    def on_message_complete(self) -> None:
        """Expect the next head."""
        super().on_message_complete()
        self._in_head, self._head_ended, self._head_size = True, True, 0

    def on_response_complete(self) -> None:
        """Handle the next pipelined request without reading more: uvicorn would read a whole buffer of requests each time."""
        if self.pipeline:
            super().on_response_complete()
            if self.pipeline:
                self.flow.pause_reading()
            return
        # As uvicorn does, but with one timer for many requests: a new timer for each takes as long as parsing a request.
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if it was idle for long enough; else set the timer to the remaining time."""
        remaining = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if not self.idle() or self._head_size:
            remaining = self.timeout_keep_alive
        if remaining <= 0:
            self._idle_timer = None
            super().timeout_keep_alive_handler()
        else:
            self._idle_timer = self.loop.call_later(remaining, self.timeout_keep_alive_handler)

    def idle(self) -> bool:
        """Return whether every request of the connection was answered."""
        cycle: RequestResponseCycle | None = self.cycle  # as below
        return cycle is None or cycle.response_complete

    def expects_request(self) -> bool:
        """Return whether a request will certainly arrive: the connection is new, or has received a part of a head."""
        cycle: RequestResponseCycle | None = self.cycle  # uvicorn's annotation lacks the None
        return cycle is None or self._head_size > 0

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        super().connection_lost(exc)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _abort(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.abort()


class RequestLimitMiddleware:
    """Passes complete requests to an application: with bodies of at most MAX_BODY bytes, and MAX_RUNNING at a time."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._slots = asyncio.Semaphore(MAX_RUNNING)
        self._waiting = 0
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, wait for a slot, and call the application; or answer 413, 408 or 503."""
        body = bytearray()
        try:
            await self._serve(scope, body, receive, send)
        finally:
            self._bytes -= len(body)

    async def _serve(self, scope: Scope, body: bytearray, receive: Receive, send: Send) -> None:
        """Serve a request. Its body is read into `body`, whose size the caller subtracts from the total afterwards."""
        more = True
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None
                    chunk, more = message.get("body", b""), message.get("more_body", False)
                    body += chunk
                    self._bytes += len(chunk)
                    if len(body) > MAX_BODY:
                        return await _refuse(send, 413, "too-large", f"The body is larger than {MAX_BODY:,} bytes.")
                    if self._bytes > MAX_BODIES:
                        return await _refuse(send, 503, "unavailable", "Too many request bodies at a time. Try again shortly.")
        except TimeoutError:
            return await _refuse(send, 408, "timeout", f"The body did not arrive within {BODY_SECONDS:.0f} seconds.")
        if self._waiting >= MAX_WAITING:
            return await _refuse(send, 503, "unavailable", "Too many requests at a time. Try again shortly.")
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        return await self._answer(with_length(scope, len(body)), bytes(body), receive, send)

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Call the application. Its slot is free once the response starts, so a slow reader does not hold it."""
        held = replayed = False

        def release() -> None:
            nonlocal held
            if held:
                held = False
                self._slots.release()

        async def replay() -> Any:
            nonlocal replayed
            if replayed:
                return await receive()
            replayed = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                release()
            await send(message)

        held = True
        try:
            await self._application(scope, replay, answer)
        finally:
            release()


def with_length(scope: Scope, length: int) -> Scope:
    """Return the scope with the length of the body, also where it came in chunks: without one, Django takes a body for empty."""
    if not length or any(name == b"content-length" for name, _ in scope["headers"]):
        return scope
    return {**scope, "headers": [*scope["headers"], (b"content-length", b"%d" % length)]}


async def _refuse(send: Send, status: int, code: str, detail: str) -> None:
    await send_problem(send, status, code, detail, headers=[_CLOSE])
