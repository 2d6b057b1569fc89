"""Log formats and filters. No line contains a secret, and no text of a client can forge a line (promise 42)."""

import logging
import time
from typing import Any, Final

from pythonjsonlogger.json import JsonFormatter

from core import request_id
from core.text import clean

# The fields of a JSON object, in this order. Libraries attach more to a record: Django attaches the request, with its query.
FIELDS: Final = (
    *("time", "level", "logger", "message", "request_id"),
    *("event", "caller", "method", "client", "target", "reason", "suppressed", "decision"),
    *("exception", "stack"),
)
_LONGEST: Final = 10_000


class RequestId(logging.Filter):
    """Adds the id of the current request to each record, or ""."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.current()
        return True


class SeldomFilter(logging.Filter):
    """Passes one record a minute of each kind that clients or an outage can cause any number of, without its traceback.

    These are what Django refuses as suspicious (`django.security`), such as a Host that is not in ALLOWED_HOSTS; Django's 503
    (`django.request`); and records of SkyAuth with `extra={"seldom": True}`, by message.
    """

    def __init__(self) -> None:
        super().__init__()
        self._next: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = _kind(record)
        if kind is None:
            return True
        now = time.monotonic()
        if now < self._next.get(kind, 0.0):
            return False
        self._next[kind] = now + 60
        record.exc_info = None
        return True


def _kind(record: logging.LogRecord) -> tuple[str, str] | None:
    if record.name.startswith("django.security.") or (
        record.name == "django.request" and getattr(record, "status_code", 0) == 503
    ):
        return record.name, ""
    return (record.name, record.getMessage()) if getattr(record, "seldom", False) else None


class TextFormatter(logging.Formatter):
    """Formats records as text. Only the first line of a record begins with a time; others, such as a traceback, are indented."""

    def __init__(self) -> None:
        super().__init__("{asctime} {levelname} {name} {message}", style="{")

    def format(self, record: logging.LogRecord) -> str:
        return "\n    ".join(clean(line, _LONGEST) for line in super().format(record).splitlines())

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the first line, which ends with the request id if there is one."""
        line = super().formatMessage(record)
        current_id = getattr(record, "request_id", "")
        return f"{line} [{current_id}]" if current_id else line


class JsonLineFormatter(JsonFormatter):
    """Formats each record as a JSON object in ASCII on one line; `time` is in UTC (ISO 8601)."""

    def __init__(self) -> None:
        names = {"levelname": "level", "name": "logger", "exc_info": "exception", "stack_info": "stack"}
        super().__init__(["levelname", "name", "message"], timestamp="time", rename_fields=names)

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Return those of FIELDS that have a value."""
        return {name: log_data[name] for name in FIELDS if log_data.get(name)}
