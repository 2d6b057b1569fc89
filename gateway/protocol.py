"""The fast path of a verify request: the protocol itself writes the answer, at once on a cache hit.

uvicorn makes a task for each request, which calls the application. Here a request to a verify endpoint is looked up in the
decision cache as soon as its headers are complete. The answer is written once the database has confirmed that the policy
revision is still the same. Only a cache miss takes the slow path, through a thread.
"""

from collections.abc import Coroutine
from time import perf_counter
from typing import TYPE_CHECKING, Any

from core.request_limits import LimitedProtocol

if TYPE_CHECKING:  # a worker imports this module before Django is set up
    from core.asgi import Scope
    from gateway.asgi import CachedAnswer
    from gateway.headers import Answer
    from revision.epoch import Epoch


class _NoEvent:
    """In the place of uvicorn's event for an application that waits for a body: there is none."""

    def set(self) -> None:
        """Do nothing."""


class RequestCycle:
    """A verify request that waits for the policy revision and, on a cache miss, for the database.

    uvicorn treats it as one of its own request cycles, and reads the attributes below.
    """

    message_event = _NoEvent()
    body = b""  # read from the connection, and ignored
    keep_alive = more_body = True
    disconnected = response_complete = False

    def __init__(self, protocol: "ForwardAuthProtocol", cached: "CachedAnswer", started: float) -> None:
        self._protocol = protocol
        self._cached = cached
        self._started = started

    def on_revision(self, epoch: "Epoch | None") -> None:
        """Write the cached answer if it is valid under the revision that was just read; else decide anew."""
        cached = self._cached
        if epoch is not cached.epoch or (epoch is not None and epoch.number != cached.number):
            cached = self._cached = self._protocol.forward_auth.look_up_again(cached, epoch)
        if cached.answer is not None and epoch is not None:
            self._finish(cached.answer)
            self._protocol.fast_path.count(cached.answer, self._started)
        elif cached.batchable:
            work = self._protocol.forward_auth.add_to_batch(cached, epoch, self._on_answer)
            if work is not None:
                self._protocol.run(work)
        else:
            self._protocol.run(self._decide(epoch))

    async def _decide(self, epoch: "Epoch | None") -> None:
        self._on_answer(await self._protocol.forward_auth.decide(self._cached, epoch))

    def _on_answer(self, answer: "Answer") -> None:
        self._protocol.slow_path.count(answer, self._started)
        self._finish(answer)

    def _finish(self, answer: "Answer") -> None:
        # uvicorn sets `disconnected` on the last request of a connection only.
        if not self.disconnected and not self._protocol.transport.is_closing():
            self._protocol.finish(self, answer, head=self._cached.request.method == "HEAD")


class ForwardAuthProtocol(LimitedProtocol):
    """Answers verify requests itself, from the decision cache where it can; uvicorn passes all others to the application."""

    _default_headers: list[tuple[bytes, bytes]] | None = None
    _default_lines = b""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        from gateway import metrics  # Django is set up by now

        # The application that uvicorn serves: the header filter, and behind it the verify endpoints.
        self._header_filter = self.app
        self.forward_auth = self._header_filter.application
        self._traces = self.forward_auth.traced
        self.fast_path, self.slow_path = metrics.FAST_PATH, metrics.SLOW_PATH

    def on_message_begin(self) -> None:
        """Reset the request. uvicorn makes its scope here, which a verify request does not need."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def begin(self) -> None:
        path, _, query = self.url.partition(b"?")
        endpoint = self.forward_auth.endpoint(path)
        if endpoint is None or not self._is_plain() or (self._traces and self._is_sampled()):
            self._begin_in_uvicorn()
            return
        started = perf_counter()
        scope: Scope = {
            "method": self.parser.get_method().decode("ascii"),
            "raw_path": path,
            "query_string": query,
            "headers": self.headers,
            "client": self.client,
        }
        cached = self.forward_auth.look_up(endpoint, scope, self._header_filter.filter_headers(scope))
        cycle = RequestCycle(self, cached, started)
        cycle.keep_alive = not self.server_state.draining
        self.cycle = cycle  # type: ignore[assignment] # it has all that uvicorn reads of one
        self.forward_auth.revisions.read(cycle.on_revision)

    def _begin_in_uvicorn(self) -> None:
        """Make the scope after all, and let uvicorn handle the request."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers += headers  # the scope has this very list
        super().begin()

    def _is_plain(self) -> bool:
        """Return whether the request needs nothing of HTTP/1.1 that uvicorn implements and this protocol does not."""
        parser = self.parser
        return (
            self.idle()
            and parser.should_keep_alive()
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
            and not self.expect_100_continue
            and not self.flow.write_paused
        )

    def _is_sampled(self) -> bool:
        """Return whether the request belongs to a trace that is recorded (https://www.w3.org/TR/trace-context/#sampled-flag)."""
        return any(name == b"traceparent" and value[-1:] in b"13579bdf" for name, value in self.headers)

    def finish(self, cycle: RequestCycle, answer: "Answer", *, head: bool) -> None:
        """Write an answer: status line, uvicorn's default headers, the answer's own headers, and the body unless `head`."""
        status_line, rest = answer.wire
        if head and answer.body:
            rest = rest[: -len(answer.body)]
        closes = b"" if cycle.keep_alive else b"connection: close\r\n"
        self.transport.write(status_line + self._default_header_lines() + closes + rest)
        cycle.response_complete = True
        if not cycle.keep_alive:  # uvicorn is shutting down
            self.transport.close()
        self.on_response_complete()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine as a task. uvicorn waits for it when it shuts down."""
        task = self.loop.create_task(work)
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _default_header_lines(self) -> bytes:
        """Return the header lines that uvicorn adds to every response. It makes a new list with a new Date once a second."""
        headers = self.server_state.default_headers
        if headers is not ForwardAuthProtocol._default_headers:
            ForwardAuthProtocol._default_headers = headers
            ForwardAuthProtocol._default_lines = b"".join(b"%s: %s\r\n" % line for line in headers)
        return ForwardAuthProtocol._default_lines
