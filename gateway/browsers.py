"""Tells people from programs: whether a refused request is a browser's, on its way to a page, so that words help more than JSON.

The client's own headers say so, which prove nothing. They choose the form of a refusal and never whether it is one.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from gateway.forwarded import PLAIN, Question, Reader, Told, told

_HTML: Final = "text/html"
_JSON: Final = ("application/json", "application/*", "*/*")  # the most specific range counts (RFC 9110 section 12.5.1)
_MAX_ACCEPT: Final = 1_000  # browsers send 150 characters
_QUALITY = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\Z")


def person(question: Question, reader: Reader) -> Told | None:
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


def prefers_html(accept: str) -> bool:
    """Return whether a page is wanted more than JSON (RFC 9110 section 12.5.1). It must be named: a program says `*/*`."""
    wanted = dict(_ranges(accept.lower().split(",")))
    json = next((wanted[name] for name in _JSON if name in wanted), 0.0)
    return wanted.get(_HTML, 0.0) > json


def _ranges(texts: Iterable[str]) -> Iterable[tuple[str, float]]:
    for text in texts:
        name, *parameters = (part.strip() for part in text.split(";"))
        weights = [value.strip() for key, _, value in (p.partition("=") for p in parameters) if key.strip() == "q"]
        yield name, float(weights[0]) if weights and _QUALITY.match(weights[0]) else 0.0 if weights else 1.0
