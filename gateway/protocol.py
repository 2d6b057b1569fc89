"""The short way of a verify request: the protocol itself writes its answer, at once when memory holds all that it takes.

uvicorn makes a task for each request, which calls the application. Here a question to the verify line is put to what is
remembered as soon as its head is whole. The answer waits for the database to tell that nothing has changed since, and is
written. Only what memory does not suffice for takes the long way, through a thread.
"""

from collections.abc import Coroutine
from time import perf_counter
from typing import TYPE_CHECKING, Any

from core.request_limits import LimitedProtocol

if TYPE_CHECKING:  # a worker imports this module before Django is set up
    from core.asgi import Scope
    from gateway.asgi import CachedAnswer
    from gateway.headers import Answer


class _NoEvent:
    """Stands where uvicorn keeps an event for whoever waits for a body: nobody does."""

    def set(self) -> None:
        """Wake nobody."""


class RequestCycle:
    """A question that waits for the mark and, where memory has no answer to it, for the database. To uvicorn: a request."""

    message_event = _NoEvent()
    body = b""  # is taken off the connection and not looked at
    keep_alive = more_body = True
    disconnected = response_complete = False

    def __init__(self, protocol: "ForwardAuthProtocol", recalled: "CachedAnswer", began: float) -> None:
        self._protocol = protocol
        self._recalled = recalled
        self._began = began

    def hear(self, mark: str | None) -> None:
        """Write the answer that memory had if it stands under this mark; else find out what stands now."""
        recalled = self._recalled
        if recalled.answer is not None and mark == recalled.mark:
            self._finish(recalled.answer)
            self._protocol.memory.decided(recalled.answer, self._began)
        elif recalled.quick:
            work = self._protocol.line.gather(recalled, mark, self._found)
            if work is not None:
                self._protocol.run(work)
        else:
            self._protocol.run(self._find_out(mark))

    async def _find_out(self, mark: str | None) -> None:
        self._found(await self._protocol.line.judge(self._recalled, mark))

    def _found(self, answer: "Answer") -> None:
        self._protocol.database.decided(answer, self._began)
        self._finish(answer)

    def _finish(self, answer: "Answer") -> None:
        # uvicorn notes on the last request of a connection alone that nobody is there any more to be answered.
        if not self.disconnected and not self._protocol.transport.is_closing():
            self._protocol.finish(self, answer, bodiless=self._recalled.question.method == "HEAD")


class ForwardAuthProtocol(LimitedProtocol):
    """Answers verify requests itself, from memory where that can be."""

    _made_of: list[tuple[bytes, bytes]] | None = None
    _lines = b""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        from gateway import metrics  # Django is set up by now

        # The application that uvicorn serves: the header filter, and behind it the verify endpoints.
        self._gate = self.app
        self.line = self._gate.application
        self.memory, self.database = metrics.MEMORY, metrics.DATABASE

    def on_message_begin(self) -> None:
        """A head begins. uvicorn makes a scope for it here, which a question does not need."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def begin(self) -> None:
        """Begin to answer a request whose head is whole."""
        path, _, query = self.url.partition(b"?")
        asked = self.line.asked(path)
        if asked is None or not self._plain():
            self._begin_for_uvicorn()
            return
        began = perf_counter()
        scope: Scope = {
            "method": self.parser.get_method().decode("ascii"),
            "raw_path": path,
            "query_string": query,
            "headers": self.headers,
            "client": self.client,
        }
        exchange = RequestCycle(self, self.line.recall(asked, scope, self._gate.filter_headers(scope)), began)
        self.cycle = exchange  # type: ignore[assignment] # it has all that uvicorn asks of one
        self.line.freshness.read(exchange.hear)

    def _begin_for_uvicorn(self) -> None:
        """Make the scope after all, and let uvicorn begin."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # the scope has this very list
        super().begin()

    def _plain(self) -> bool:
        """Return whether nothing about the request's connection is out of the ordinary. Of the rest uvicorn knows more."""
        parser = self.parser
        return (
            self.idle()
            and parser.should_keep_alive()
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and not self.flow.write_paused
        )

    def finish(self, exchange: RequestCycle, answer: "Answer", *, bodiless: bool) -> None:
        """Write an answer: its status line, what uvicorn puts into every answer, and what follows."""
        first, rest = answer.wire
        if bodiless and answer.body:
            rest = rest[: -len(answer.body)]
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
        if headers is not ForwardAuthProtocol._made_of:
            ForwardAuthProtocol._made_of = headers
            ForwardAuthProtocol._lines = b"".join(b"%s: %s\r\n" % line for line in headers)
        return ForwardAuthProtocol._lines
