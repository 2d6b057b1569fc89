"""How many examples the property tests try: few on each push, many in `make test-long`, which sets TEST_EXAMPLES=long."""

import os
from typing import Final

LONG: Final = os.environ.get("TEST_EXAMPLES") == "long"
TIMES: Final = 20


def examples(count: int = 100, *, long: int | None = None) -> int:
    """Return `count`, or in the long run `long`, which is 20 times as many unless said otherwise."""
    return (long or count * TIMES) if LONG else count
