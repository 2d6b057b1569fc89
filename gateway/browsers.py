"""Detects the requests of browsers that open a page, so that a refusal can be a page instead of JSON.

The client's own headers prove nothing. They choose the form of a refusal, never whether a request is refused.
"""

from collections.abc import Sequence
from typing import Final

from core.content_negotiation import prefers_html
from gateway.forwarded import WITHOUT_PAGES, AuthRequest, OriginalRequest, TargetReader, original_request

_MAX_ACCEPT: Final = 1_000  # bytes; browsers send 150


def page_request(request: AuthRequest, reader: TargetReader) -> OriginalRequest | None:
    """Return the original request if a browser opens a page with it, else None."""
    if request.endpoint in WITHOUT_PAGES or not _navigates(request.headers):
        return None
    original = original_request(request, reader)
    return original if original.method in ("GET", "HEAD") else None


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
    accepted = b",".join(accept)
    return b"text/html" in accepted.lower() and len(accepted) <= _MAX_ACCEPT and prefers_html(accepted.decode("latin-1"))
