"""The way back to where somebody was before they signed in: a path of the same host that reads in one way only, or none."""

import re
from typing import Final

from core.paths import AmbiguousPath, split_path

_MOST: Final = 2_000
# What browsers send in a query; no blank, no control character, none that ends it (#) or that some take for a slash.
_QUERY: Final = re.compile(r"""[A-Za-z0-9\-._~!$&'()*+,;=:@/?%\[\]{}|^`]*\Z""")


def safe_next_path(text: str) -> str:
    """Return the path and query if they may be sent to a browser as they are (promise 41), else ""."""
    path, _, query = text.partition("?")
    if len(text) > _MOST or not _QUERY.match(query):
        return ""
    try:
        split_path(path)
    except AmbiguousPath:
        return ""
    return text
