"""How often a test tries something: a few times on each push, and more often in `make test-examples` and `make test-long`.

These set TEST_EXAMPLES to `long`, or to a number, which multiplies: `make test-long EXAMPLES=40`.
"""

import os
from typing import Final

_ASKED: Final = os.environ.get("TEST_EXAMPLES", "1")
LONG: Final = _ASKED != "1"
TIMES: Final = 20


def examples(count: int = 100, *, long: int | None = None) -> int:
    """Return `count`; in a long run `long`, which is 20 times as many unless said otherwise; or a multiple of `count`."""
    if _ASKED == "long":
        return long or count * TIMES
    return count * int(_ASKED)
