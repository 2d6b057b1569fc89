"""A lock beside a SQLite database: every server holds it together with others, and what replaces the database holds it alone."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held(database: Path, *, alone: bool) -> Iterator[None]:
    """Hold the lock for as long as the block lasts. Raises BlockingIOError if another process holds it and one must be alone."""
    descriptor = os.open(database.with_name(f"{database.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
