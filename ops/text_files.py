"""Text files that are arguments of a command; `-` is standard input."""

import sys
from pathlib import Path

from core.errors import Invalid


def read(name: str, *, limit: int) -> str:
    """Return the text of a file. Raises Invalid if it cannot be read, is longer than `limit` bytes, or is not UTF-8."""
    raw = read_bytes(name, limit=limit)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Invalid(f"{_label(name)} is not UTF-8 text (line {line}).") from None


def read_bytes(name: str, *, limit: int) -> bytes:
    """Return the content of a file. Raises Invalid if it cannot be read, or is longer than `limit` bytes."""
    try:
        if name == "-":
            raw = sys.stdin.buffer.read(limit + 1)
        else:
            with Path(name).open("rb") as stream:
                raw = stream.read(limit + 1)
    except OSError as error:
        raise Invalid(f"{_label(name)} cannot be read: {error.strerror}.") from None
    if len(raw) > limit:
        raise Invalid(f"{_label(name)} is longer than {limit} bytes.")
    return raw


def _label(name: str) -> str:
    return "Standard input" if name == "-" else name
