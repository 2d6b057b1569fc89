"""The return URL (`next`) after signing in: an unambiguous path on the same host, or none."""

import re
from typing import Final

from core.paths import AmbiguousPath, split_path

_MAX_LENGTH: Final = 2_000
# The characters that browsers send in a query, without spaces, control characters, `#`, and the backslash, which some programs
# read as a slash.
_QUERY: Final = re.compile(r"""[A-Za-z0-9\-._~!$&'()*+,;=:@/?%\[\]{}|^`]*\Z""")


def nearest_safe_path(text: str) -> str:
    """Return the path and query if they are safe in a redirect, else the path alone if that is, else ""."""
    return safe_next_path(text) or safe_next_path(text.partition("?")[0])


def safe_next_path(text: str) -> str:
    """Return the path and query unchanged if they are safe in a redirect (promise 41), else ""."""
    path, _, query = text.partition("?")
    if len(text) > _MAX_LENGTH or not _QUERY.match(query):
        return ""
    try:
        split_path(path)
    except AmbiguousPath:
        return ""
    return text
