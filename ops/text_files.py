"""Text files that are arguments of a command; `-` is standard input."""

import sys
from pathlib import Path

from core.errors import Invalid


def read(name: str, *, limit: int) -> str:
    """Return the text of a file. Raises Invalid if it cannot be read, is longer than `limit` bytes, or is not UTF-8."""
    label = "Standard input" if name == "-" else name
    try:
        if name == "-":
            raw = sys.stdin.buffer.read(limit + 1)
        else:
            with Path(name).open("rb") as stream:
                raw = stream.read(limit + 1)
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise Invalid(f"{label} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Invalid(f"{label} is not UTF-8 text (line {line}).") from None
    if len(raw) > limit:
        raise Invalid(f"{label} is longer than {limit} bytes.")
    return text
