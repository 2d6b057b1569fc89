"""Dry runs: a change is made and rolled back, so that it has the errors that it would have."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction

from core import agreement


@contextmanager
def rehearsed(dry_run: bool) -> Iterator[None]:
    """Roll back what the block changes if this is a `dry_run`, which asks no other system. Otherwise run the block as it is."""
    if not dry_run:
        yield
        return
    with agreement.assumed(), transaction.atomic():
        yield
        transaction.set_rollback(True)
