"""Path patterns of routes, which match the segments that `core.paths` parses."""

from dataclasses import dataclass
from typing import Final

from core.paths import Segments

MAX_PATTERN: Final = 512

_NOT_IN_PATTERN: Final = frozenset('%;?#\\"')


class BadPattern(ValueError):
    """The text is not a path pattern; the message says what to write instead."""


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

    A literal segment matches itself, `*` exactly one non-empty segment, and `**`, which can only be last, any number of
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
        raise BadPattern("A pattern has no empty segments, except after a final slash.")
    return Pattern(tuple(_wanted(part) for part in parts), open_ended)


def _wanted(part: str) -> str | None:
    """Return the literal of one segment of a pattern, or None for `*`. Raises BadPattern."""
    if part == "*":
        return None
    if part == "**":
        raise BadPattern("** can only be the last segment of a pattern.")
    if "*" in part:
        raise BadPattern("* matches a whole segment. It cannot be a part of one.")
    if part in (".", ".."):
        raise BadPattern("A pattern has no dot segments.")
    if not part.isprintable() or not _NOT_IN_PATTERN.isdisjoint(part):
        raise BadPattern("A pattern has decoded, printable characters, and no % ; ? # \\ or double quotes.")
    return part
