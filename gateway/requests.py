"""Counts the responses that Django sends, for the metrics: of APIs, and of pages."""

from time import perf_counter
from typing import Any, Final

from core.asgi import Application, Receive, Scope, Send
from core.histogram import LatencyHistogram

STATUS_CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")
_API_PATHS: Final = (b"/api/", b"/users")


class InterfaceMetrics(LatencyHistogram):
    """The responses of one interface by the class of their status, and how long they took to begin.

    Only the event loop writes them. `name` is the value of the label `interface`.
    """

    __slots__ = ("name", "statuses")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.statuses = dict.fromkeys(STATUS_CLASSES, 0)


API: Final = InterfaceMetrics("api")
PAGES: Final = InterfaceMetrics("pages")


class CountedRequests:
    """Counts each response of an application, and how long it took to begin. A request without a response is not counted."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application."""
        started = perf_counter()
        counts = API if scope["raw_path"].startswith(_API_PATHS) else PAGES

        async def counted(message: Any) -> None:
            if message["type"] == "http.response.start":
                counts.add(perf_counter() - started)
                counts.statuses[f"{message['status'] // 100}xx"] += 1
            await send(message)

        await self._application(scope, receive, counted)
