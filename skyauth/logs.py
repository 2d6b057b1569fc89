"""How log records become lines, so that none shows more than it should and none looks like another's (promise 42)."""

import logging
import time
from typing import Any, Final

from pythonjsonlogger.json import JsonFormatter

from core import request_id
from core.text import clean

# What an object of JSON shows, in this order. Libraries attach more to a record: Django the request, with its query.
FIELDS: Final = (
    *("time", "level", "logger", "message", "request_id"),
    *("event", "caller", "method", "client", "target", "reason", "suppressed", "decision"),
    *("exception", "stack"),
)
_LONGEST: Final = 10_000


class RequestId(logging.Filter):
    """Puts the id of the request that is worked on on each record, "" where there is none."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True."""
        record.request_id = request_id.current()
        return True


class Seldom(logging.Filter):
    """Lets through one record a minute of each kind that a stranger can cause any number of, and without its traceback.

    Those are Django's of a request that it finds suspicious, such as one for a Host that ALLOWED_HOSTS does not name.
    """

    def __init__(self) -> None:
        super().__init__()
        self._next: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is written."""
        if not record.name.startswith("django.security."):
            return True
        now = time.monotonic()
        if now < self._next.get(record.name, 0.0):
            return False
        self._next[record.name] = now + 60
        record.exc_info = None
        return True


class Lines(logging.Formatter):
    """Writes records for people. What follows on a first line, such as a traceback, is indented: a time alone begins one."""

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name} {message}", style="{")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or lines."""
        return "\n    ".join(clean(line, _LONGEST) for line in super().format(record).splitlines())

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the first line, with the request's id at its end, where there is one."""
        line = super().formatMessage(record)
        name = getattr(record, "request_id", "")
        return f"{line} [{name}]" if name else line


class Json(JsonFormatter):
    """Writes each record as an object of JSON, in ASCII on one line; `time` is in UTC (ISO 8601)."""

    def __init__(self) -> None:
        names = {"levelname": "level", "name": "logger", "exc_info": "exception", "stack_info": "stack"}
        super().__init__(["levelname", "name", "message"], timestamp="time", rename_fields=names)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Return FIELDS, as far as there is something to say."""
        return {name: log_data[name] for name in FIELDS if log_data.get(name)}
