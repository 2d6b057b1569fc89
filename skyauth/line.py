"""The short way of a verify request: its answer is written by the protocol itself, when memory holds all that it takes.

uvicorn starts a task for each request, which calls the application. Here a question to the verify line is first put to what is
remembered, as soon as the database has told that nothing changed. Only what memory does not suffice for takes the long way.
"""

from functools import partial
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from skyauth.bounds import BoundedProtocol

if TYPE_CHECKING:  # a worker imports this module before Django is set up
    from accounts.gate import Scope
    from gateway.asgi import Asked


class LineProtocol(BoundedProtocol):
    """Answers verify requests from memory, in the event loop, where that can be."""

    _made_of: list[tuple[bytes, bytes]] | None = None
    _lines = b""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        from gateway.asgi import dialect  # Django is set up by now
        from skyauth.asgi import application, line

        self._gate, self._line, self._dialect = application, line, dialect

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Begin to answer a request: uvicorn's one place for it."""
        scope = cast("Scope", cycle.scope)
        asked = self._dialect(scope)
        # Of a client that reads slowly, or wants the connection closed, uvicorn knows more than is repeated here.
        if asked is not None and cycle.keep_alive and not self.flow.write_paused:
            self._line.freshness.read(partial(self._answer, cycle, app, asked, scope))
        else:
            super()._start_asgi_task(cycle, app)

    def _answer(self, cycle: RequestResponseCycle, app: Any, asked: "Asked", scope: "Scope", mark: str | None) -> None:
        """Write the answer that memory has, or take the long way."""
        if cycle.disconnected or self.transport.is_closing():
            return
        answer = None if mark is None else self._line.recall(asked, scope, self._gate.admit(scope), mark)
        if answer is None or not cycle.keep_alive or (answer.body and scope["method"] == "HEAD"):
            super()._start_asgi_task(cycle, app)
            return
        first, rest = answer.wire
        self.transport.write(first + self._defaults() + rest)
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()

    def _defaults(self) -> bytes:
        """Return the header lines that uvicorn puts into every answer; it renews them, the date, once a second."""
        headers = self.server_state.default_headers
        if headers is not LineProtocol._made_of:
            LineProtocol._made_of = headers
            LineProtocol._lines = b"".join(b"%s: %s\r\n" % line for line in headers)
        return LineProtocol._lines
