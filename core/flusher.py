"""The background thread that writes what requests leave in memory."""

import logging
import threading
import time
from collections.abc import Callable

from django.db import Error, close_old_connections

from core.postgresql.deadline import limit_waits

logger = logging.getLogger("skyauth.flusher")


class Flusher:
    """Calls `flush` every `seconds` seconds until the process ends, in a daemon thread named `name`."""

    def __init__(self, name: str, flush: Callable[[], None], seconds: float) -> None:
        self._name = name
        self._flush = flush
        self._seconds = seconds
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        return self._thread is not None

    def start(self) -> None:
        """Start the thread, once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        limit_waits()
        while True:
            time.sleep(self._seconds)
            try:
                close_old_connections()
                self._flush()
                close_old_connections()
            except Error as error:  # the type alone: the message can quote a row
                logger.warning("A flush failed: %s: %s", self._name, type(error).__name__, extra={"seldom": True})
            except Exception:  # the next flush is another attempt
                logger.exception("A flush failed: %s", self._name)
