"""The strict parser of request paths.

A path is decoded once. Anything that two programs can read differently (an encoded slash, a dot segment, a double slash, a second
decoding) is refused and never repaired, because the upstream can repair it in another way (promise 23).
"""

import re
from typing import Final

Segments = tuple[str, ...]

MAX_PATH: Final = 8_192

# RFC 3986 section 3.3 pchar without ";", plus "/". All other characters must be percent-encoded; _FORBIDDEN_BYTES cannot be.
_RAW = re.compile(rb"/[A-Za-z0-9\-._~!$&'()*+,=:@%/]*\Z")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_FORBIDDEN_BYTES: Final = frozenset(b'/\\%;?#."') | frozenset(range(0x20)) | {0x7F}


class AmbiguousPath(ValueError):
    """The text is not a path, or programs can read it in different ways. The message gives the reason without the path."""


def split_path(raw: str) -> Segments:
    """Return the decoded segments of a request's path, without its query.

    `raw` is the unchanged request target in origin form (RFC 9112 section 3.2.1). `/` is `("",)` and `/a/` is `("a", "")`.
    Raises AmbiguousPath.
    """
    text = raw.partition("?")[0]
    if len(text) > MAX_PATH:
        raise AmbiguousPath(f"The path is longer than {MAX_PATH} characters.")
    try:
        path = text.encode("ascii")
    except UnicodeEncodeError:
        raise AmbiguousPath("The path has a character outside ASCII.") from None
    if not path.startswith(b"/"):
        raise AmbiguousPath("The path does not start with a slash.")
    if not _RAW.match(path):
        raise AmbiguousPath("The path has a character that is not allowed.")
    if b"//" in path:
        raise AmbiguousPath("The path has an empty segment.")
    return tuple(_segment(part) for part in path[1:].split(b"/"))


def _segment(part: bytes) -> str:
    """Return one decoded segment. Raises AmbiguousPath."""
    if b"%" in part:
        for escape in _ESCAPE.finditer(part):
            if escape[1] is None:
                raise AmbiguousPath("The path has a malformed percent escape.")
            if int(escape[1], 16) in _FORBIDDEN_BYTES:
                raise AmbiguousPath("The path has an escape that another program can read as a separator.")
        part = _ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), part)
    if part in (b".", b".."):
        raise AmbiguousPath("The path has a dot segment.")
    try:
        text = part.decode()
    except UnicodeDecodeError:
        raise AmbiguousPath("The path is not UTF-8 once decoded.") from None
    if not text.isprintable():
        raise AmbiguousPath("The path has a control or invisible character.")
    return text
