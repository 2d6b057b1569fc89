"""The path language: what a path is, what a pattern is, and whether they match.

A path is read once, strictly. Whatever two programs could read differently (an encoded slash, a dot segment, a double
slash, a second decoding) is refused and never repaired, because the upstream may repair it another way
(security promise 23).
"""

import re
from dataclasses import dataclass
from typing import Final

Segments = tuple[str, ...]

MAX_PATH: Final = 8_192
MAX_PATTERN: Final = 512

# RFC 3986 section 3.3 pchar without ";", plus "/": everything else must be percent-encoded, and some of it may not be.
_RAW = re.compile(rb"/[A-Za-z0-9\-._~!$&'()*+,=:@%/]*\Z")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})?")
_FORBIDDEN_BYTES: Final = frozenset(b'/\\%;?#."') | frozenset(range(0x20)) | {0x7F}
_NOT_IN_PATTERN: Final = frozenset('%;?#\\"')


class AmbiguousPath(ValueError):
    """The path can be read in more than one way, or is none; the text says why, without repeating the path."""


class BadPattern(ValueError):
    """The pattern is not of the path language; the text says what to write instead."""


def split_path(raw: str) -> Segments:
    """Return the decoded segments of a request's path, without its query.

    `raw` is the request target in origin form (RFC 9112 section 3.2.1), exactly as it was sent. `/` is `("",)` and
    `/a/` is `("a", "")`. Raises AmbiguousPath.
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
        raise AmbiguousPath("The path has a character that must not stand there.")
    if b"//" in path:
        raise AmbiguousPath("The path has an empty segment.")
    return tuple(_segment(part) for part in path[1:].split(b"/"))


def _segment(part: bytes) -> str:
    """Return one decoded segment, or raise AmbiguousPath."""
    if b"%" in part:
        for escape in _ESCAPE.finditer(part):
            if escape[1] is None:
                raise AmbiguousPath("The path has a broken percent escape.")
            if int(escape[1], 16) in _FORBIDDEN_BYTES:
                raise AmbiguousPath("The path has an escape that another program may read as structure.")
        part = _ESCAPE.sub(lambda found: bytes((int(found[1], 16),)), part)
    if part in (b".", b".."):
        raise AmbiguousPath("The path has a dot segment.")
    try:
        text = part.decode()
    except UnicodeDecodeError:
        raise AmbiguousPath("The path is not UTF-8 once decoded.") from None
    if not text.isprintable():
        raise AmbiguousPath("The path has a control or invisible character.")
    return text


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled pattern: literal segments, `None` for `*`, and whether `**` ends it."""

    segments: tuple[str | None, ...]
    open_ended: bool

    def matches(self, path: Segments) -> bool:
        """Return whether the whole path matches, case-sensitively, segment by segment."""
        if len(path) < len(self.segments) or (len(path) > len(self.segments) and not self.open_ended):
            return False
        return all(
            actual == wanted if wanted is not None else actual != "" for wanted, actual in zip(self.segments, path, strict=False)
        )


def compile_pattern(text: str) -> Pattern:
    """Return the compiled pattern of `text`.

    A literal segment matches itself, `*` exactly one non-empty segment, and `**`, which may only stand last, any number of
    segments including none: `/api/**` matches `/api`, `/api/` and `/api/x/y`. No regular expressions. Raises BadPattern.
    """
    if not text.startswith("/"):
        raise BadPattern("A pattern starts with a slash, as in /api/**.")
    if len(text) > MAX_PATTERN:
        raise BadPattern(f"A pattern has at most {MAX_PATTERN} characters.")
    parts = text[1:].split("/")
    open_ended = parts[-1] == "**"
    if open_ended:
        parts.pop()
    if "" in (parts if open_ended else parts[:-1]):
        raise BadPattern("A pattern has no empty segments, except the one behind a last slash.")
    return Pattern(tuple(_wanted(part) for part in parts), open_ended)


def _wanted(part: str) -> str | None:
    """Return the literal that one segment of a pattern asks for, or None for `*`. Raises BadPattern."""
    if part == "*":
        return None
    if part == "**":
        raise BadPattern("** may only stand at the end of a pattern.")
    if "*" in part:
        raise BadPattern("* stands for a whole segment; it cannot be a part of one.")
    if part in (".", ".."):
        raise BadPattern("A pattern has no dot segments.")
    if not part.isprintable() or not _NOT_IN_PATTERN.isdisjoint(part):
        raise BadPattern("A pattern is written decoded and printable, without % ; ? # \\ and double quotes.")
    return part
