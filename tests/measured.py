"""Which cases measure coverage: not those that say little about the lines that they run. Measuring doubles the time of a case."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from coverage import Coverage

TESTS: Final = Path(__file__).parent
# They run lines by chance (pages, random data), or in programs that they start, where nothing is measured.
UNMEASURED: Final = (
    *("adminsite", "api/test_schemathesis.py", "benchmarks", "browser", "dashboard", "docs", "e2e", "raw", "upgrade"),
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    coverage = Coverage.current()
    if coverage is None or not any(item.path.is_relative_to(TESTS / name) for name in UNMEASURED):
        return (yield)
    coverage.stop()
    try:
        return (yield)
    finally:
        coverage.start()
