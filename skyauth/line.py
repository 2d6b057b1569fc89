"""The short way of a verify request: its answer is written by the protocol itself, when memory holds all that it takes.

uvicorn makes a task for each request, which calls the application. Here a question to the verify line is put to what is
remembered as soon as its head is whole. The answer waits for the database to tell that nothing has changed since, and is
written. Only what memory does not suffice for takes the long way.
"""

from collections.abc import Coroutine
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from skyauth.bounds import BoundedProtocol

if TYPE_CHECKING:  # a worker imports this module before Django is set up
    from accounts.gate import Scope
    from gateway.asgi import Recalled


class _NoEvent:
    """Stands where uvicorn keeps an event for whoever waits for a body: nobody does."""

    def set(self) -> None:
        """Wake nobody."""


class Exchange:
    """A question to which memory has an answer, while it waits for the mark. To uvicorn it is the request under way."""

    message_event = _NoEvent()
    body = b""  # is taken off the connection and not looked at
    keep_alive = more_body = True
    disconnected = response_complete = False

    def __init__(self, protocol: "LineProtocol", recalled: "Recalled", began: float) -> None:
        self._protocol = protocol
        self._recalled = recalled
        self._began = began

    def hear(self, mark: str | None) -> None:
        """Write the answer if it stands under this mark; else find out what stands now."""
        if self._gone:
            return
        if mark == self._recalled.mark:
            self._protocol.finish(self, *self._recalled.answer.wire)
            self._protocol.memory.decided(self._recalled.answer, self._began)
        else:
            self._protocol.run(self._find_out())

    async def _find_out(self) -> None:
        answer = await self._protocol.line.judge(self._recalled.asked, self._recalled.question)
        self._protocol.database.decided(answer, self._began)
        if not self._gone:
            self._protocol.finish(self, *answer.wire)

    @property
    def _gone(self) -> bool:
        """Whether nobody is there any more to be answered; uvicorn notes it on the last request of a connection alone."""
        return self.disconnected or self._protocol.transport.is_closing()


class LineProtocol(BoundedProtocol):
    """Answers verify requests from memory, in the event loop, where that can be."""

    _made_of: list[tuple[bytes, bytes]] | None = None
    _lines = b""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        from gateway import metrics  # Django is set up by now
        from skyauth.asgi import application, line

        self._gate, self.line = application, line
        self.memory, self.database = metrics.MEMORY, metrics.DATABASE

    def begin(self) -> None:
        """Begin to answer a request whose head is whole."""
        began = perf_counter()
        recalled = self._recall()
        if recalled is None:
            super().begin()
        else:
            exchange = Exchange(self, recalled, began)
            self.cycle = exchange  # type: ignore[assignment] # it has all that uvicorn asks of one
            self.line.freshness.read(exchange.hear)

    def _recall(self) -> "Recalled | None":
        """Return what memory knows of the request, or None where it is to take the long way."""
        path, _, query = self.url.partition(b"?")
        asked = self.line.asked(path)
        if asked is None or not self._plain():
            return None
        scope = cast("Scope", self.scope)
        scope["method"] = method = self.parser.get_method().decode("ascii")
        scope["raw_path"], scope["query_string"] = path, query
        recalled = self.line.recall(asked, scope, self._gate.admit(scope))
        return None if recalled is None or (method == "HEAD" and recalled.answer.body) else recalled

    def _plain(self) -> bool:
        """Return whether nothing about the request's connection is out of the ordinary. Of the rest uvicorn knows more."""
        parser = self.parser
        return (
            self._idle()
            and parser.should_keep_alive()
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and not self.flow.write_paused
        )

    def _idle(self) -> bool:
        """Return whether no other request of the connection waits for its answer."""
        under_way: RequestResponseCycle | None = self.cycle  # uvicorn says that there always is one
        return under_way is None or under_way.response_complete

    def finish(self, exchange: Exchange, first: bytes, rest: bytes) -> None:
        """Write an answer: its status line, what uvicorn puts into every answer, and what follows."""
        self.transport.write(first + self._defaults() + rest)
        exchange.response_complete = True
        if not exchange.keep_alive:  # uvicorn is shutting down
            self.transport.close()
        self.on_response_complete()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done that takes longer. uvicorn waits for it when it shuts down."""
        task = self.loop.create_task(work)
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _defaults(self) -> bytes:
        """Return the header lines that uvicorn puts into every answer; it renews them, the date, once a second."""
        headers = self.server_state.default_headers
        if headers is not LineProtocol._made_of:
            LineProtocol._made_of = headers
            LineProtocol._lines = b"".join(b"%s: %s\r\n" % line for line in headers)
        return LineProtocol._lines
