"""Tells people from programs: whether a refused request is a browser's, on its way to a page, so that words help more than JSON.

The client's own headers say so, which prove nothing. They choose the form of a refusal and never whether it is one.
"""

from collections.abc import Sequence
from typing import Final

from core.content_negotiation import prefers_html
from gateway.forwarded import PLAIN, AuthRequest, OriginalRequest, Reader, told

_MAX_ACCEPT: Final = 1_000  # browsers send 150 characters


def person(question: AuthRequest, reader: Reader) -> OriginalRequest | None:
    """Return what the proxy told of the request of somebody who sits before a browser, or None for everybody else."""
    if question.endpoint in PLAIN or not _navigates(question.headers):
        return None
    asked = told(question, reader)
    return asked if asked.method in ("GET", "HEAD") else None


def _navigates(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Return whether these are the headers of a browser that opens a page, and not of a script on one."""
    accept: list[bytes] = []
    for name, value in headers:
        if name == b"accept":
            accept.append(value)
        elif (
            (name == b"sec-fetch-mode" and value != b"navigate")
            or (name == b"sec-fetch-dest" and value != b"document")
            or (name == b"x-requested-with" and value.lower() == b"xmlhttprequest")
        ):
            return False
    wanted = b",".join(accept)
    return b"text/html" in wanted.lower() and len(wanted) <= _MAX_ACCEPT and prefers_html(wanted.decode("latin-1"))
