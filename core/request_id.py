"""The id of the current request, for log lines and response headers."""

import re
import secrets
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Final

HEADER: Final = "X-Request-Id"

_VALID: Final = re.compile(rb"[A-Za-z0-9._\-]{1,64}\Z")
_current: Final[ContextVar[str]] = ContextVar("request_id", default="")


def current() -> str:
    """Return the id of the request that this thread or task handles, or ""."""
    return _current.get()


def begin(values: Sequence[bytes], *, trusted: bool) -> str:
    """Set and return the id of the current request: the one from a trusted proxy, if there is exactly one valid id.

    `values` are the raw values of HEADER. Other requests get a random id, so clients cannot write into the log.
    """
    valid = trusted and len(values) == 1 and _VALID.match(values[0])
    current_id = values[0].decode("ascii") if valid else secrets.token_hex(16)
    _current.set(current_id)
    return current_id
