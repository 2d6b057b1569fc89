"""Limits on what a client can make the server hold: the size of a head and a body, and the number of requests at a time.

uvicorn and httptools have none: a header without an end grows in memory, a half-sent request waits for ever, a body is
spooled to disk whole, and each request that Django works on takes a thread.
"""

import asyncio
import json
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from core.asgi import Application, Receive, Scope, Send
from core.problems import CONTENT_TYPE, RETRY_AFTER_SECONDS, problem

MAX_HEAD: Final = 65_536  # what the gate looks at is half of that, and refused with an answer
HEAD_SECONDS: Final = 10.0
MAX_BODY: Final = 6_000_000  # the largest import (5 MB), as JSON
BODY_SECONDS: Final = 30.0
AT_ONCE: Final = 16
WAITING: Final = 200
MAX_BODIES: Final = 64_000_000  # bytes of all bodies that are held at a time


class LimitedProtocol(HttpToolsProtocol):
    """Ends a connection whose request line and headers are too large, too slow in coming, or name a fragment.

    While requests of a connection wait for their turn, no more are read from it.
    """

    _in_head = True
    _moved_on = False  # whether a head or a message ended in the piece that is being parsed
    _head_size = 0
    _clock: asyncio.TimerHandle | None = None
    _idle_clock: asyncio.TimerHandle | None = None
    _idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A head is expected, and not for ever."""
        super().connection_made(transport)  # type: ignore[arg-type] # uvicorn's is narrower than asyncio's
        self._clock = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Count and time what belongs to no body. A head that begins behind another's end counts from the next piece on."""
        self._moved_on = False
        super().data_received(data)
        if not self._moved_on:
            self._head_size += len(data)
            if self._head_size > MAX_HEAD:
                self._give_up()
            elif self._clock is None:
                self._clock = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header as uvicorn does, but no trailer: it would be one of a head that was looked at already."""
        if not self._in_head:
            raise ValueError("trailer")  # 400, see below
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        """A piece of a body: how large and how slow it may be is for `RequestLimitMiddleware` to say."""
        self._moved_on, self._head_size = True, 0
        self._stop_clock()
        super().on_body(body)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head, self._moved_on, self._head_size = False, True, 0
        self._stop_clock()
        if b"#" in self.url:  # no request target has one (RFC 9112 section 3.2), and uvicorn would cut it off unseen
            raise ValueError("fragment")  # httptools makes a parser's error of it, which uvicorn answers with 400
        self.begin()

    def begin(self) -> None:
        """Begin to answer the request whose head is whole."""
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What comes next belongs to another head."""
        super().on_message_complete()
        self._in_head, self._moved_on, self._head_size = True, True, 0

    def on_response_complete(self) -> None:
        """Go on with what waits. uvicorn would read on, too: a whole buffer of further requests for each one answered."""
        if self.pipeline:
            super().on_response_complete()
            if self.pipeline:
                self.flow.pause_reading()
            return
        # As uvicorn does, but with one timer for many requests: to set it anew for each costs as much as parsing one.
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self._idle_clock is None:
            self._idle_clock = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if nothing was asked for long enough; else look again when that could be."""
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if not self.idle() or self._head_size:
            left = self.timeout_keep_alive
        if left <= 0:
            self._idle_clock = None
            super().timeout_keep_alive_handler()
        else:
            self._idle_clock = self.loop.call_later(left, self.timeout_keep_alive_handler)

    def idle(self) -> bool:
        """Return whether no request of the connection waits for its answer."""
        under_way: RequestResponseCycle | None = self.cycle  # uvicorn says that there always is one
        return under_way is None or under_way.response_complete

    def connection_lost(self, exc: Exception | None) -> None:
        """The client went."""
        self._stop_clock()
        if self._idle_clock is not None:
            self._idle_clock.cancel()
            self._idle_clock = None
        super().connection_lost(exc)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _give_up(self) -> None:
        self._clock = None
        if not self.transport.is_closing():
            self.transport.abort()


class RequestLimitMiddleware:
    """Hands an application whole requests, with bodies of at most MAX_BODY, and at most AT_ONCE until they are answered."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._places = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, wait for a place, and let the application answer; or answer 413, 408 or 503."""
        body = bytearray()
        try:
            await self._serve(scope, body, receive, send)
        finally:
            self._bytes -= len(body)

    async def _serve(self, scope: Scope, body: bytearray, receive: Receive, send: Send) -> None:
        """Do so; `body` takes what comes, and the caller sees to it that it counts no longer than it is held."""
        more = True
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None
                    piece, more = message.get("body", b""), message.get("more_body", False)
                    body += piece
                    self._bytes += len(piece)
                    if len(body) > MAX_BODY:
                        return await _refuse(send, 413, "too-large", f"The body is larger than {MAX_BODY:,} bytes.")
                    if self._bytes > MAX_BODIES:
                        return await _refuse(send, 503, "unavailable", "Too many bodies at a time; try again shortly.")
        except TimeoutError:
            return await _refuse(send, 408, "timeout", "The body did not come in time.")
        if self._waiting >= WAITING:
            return await _refuse(send, 503, "unavailable", "Too many requests at a time; try again shortly.")
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        return await self._answer(scope, bytes(body), receive, send)

    async def _answer(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Let the application answer. Its place is free as soon as it begins to: a slow reader keeps nobody out."""
        held = given = False

        def free() -> None:
            nonlocal held
            if held:
                held = False
                self._places.release()

        async def replay() -> Any:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def answer(message: Any) -> None:
            if message["type"] == "http.response.start":
                free()
            await send(message)

        held = True
        try:
            await self._application(scope, replay, answer)
        finally:
            free()


async def _refuse(send: Send, status: int, code: str, detail: str) -> None:
    content = json.dumps(problem(status, code, detail)).encode()
    headers = [
        (b"content-type", CONTENT_TYPE.encode()),
        (b"content-length", str(len(content)).encode()),
        (b"cache-control", b"no-store"),
        (b"connection", b"close"),  # what is left of the body is not read
    ]
    if status == 503:
        headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
