"""The id of the request that is being worked on: on each log line of it, and in the answers of Django's doors."""

import re
import secrets
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Final

HEADER: Final = "X-Request-Id"

_GIVEN: Final = re.compile(rb"[A-Za-z0-9._\-]{1,64}\Z")
_current: Final[ContextVar[str]] = ContextVar("request_id", default="")


def current() -> str:
    """Return the id of the request that this thread or task works on, or "" when it works on none."""
    return _current.get()


def begin(given: Sequence[bytes], *, trusted: bool) -> str:
    """Begin to work on a request, and return its id: the one that a trusted proxy gave it, if it is one and can be one.

    `given` are the raw values of HEADER. Everybody else's requests get a random id, and so nobody writes into our log.
    """
    fits = trusted and len(given) == 1 and _GIVEN.match(given[0])
    name = given[0].decode("ascii") if fits else secrets.token_hex(16)
    _current.set(name)
    return name
