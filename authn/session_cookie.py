"""Reads the session key from raw Cookie headers: the one reader for the gateway and for everything that Django serves."""

from collections.abc import Iterable
from functools import lru_cache

from django.conf import settings


def session_key(lines: Iterable[bytes]) -> str | None:
    """Return the session key of a request with these Cookie headers (RFC 6265 section 5.4), or None.

    A key consists of ASCII letters and digits. A value that is quoted or has anything else in it is none, and two cookies with
    different values are none: a parser that is more lenient would choose one of them.
    """
    name = _name(settings.SESSION_COOKIE_NAME)
    values = {
        value.strip()
        for line in lines
        for key, equals, value in (pair.partition(b"=") for pair in line.split(b";"))
        if equals and key.strip() == name
    }
    value = values.pop() if len(values) == 1 else b""
    return value.decode("ascii") if value.isalnum() else None


@lru_cache(1)
def _name(name: str) -> bytes:
    return name.encode("ascii")
