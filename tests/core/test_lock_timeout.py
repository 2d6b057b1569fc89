"""A note that nobody asked for does not wait for whoever holds the lock."""

import pytest
from django.conf import settings
from django.db import DatabaseError, connection

from audit.models import Entry
from core.lock_timeout import short_lock_timeout


def wait_of_this_connection() -> str:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout" if connection.vendor == "sqlite" else "SHOW lock_timeout")
        return str(cursor.fetchone()[0])


@pytest.mark.usefixtures("separate_connections")
def test_the_wait_is_short_inside_and_as_configured_afterwards() -> None:
    before = wait_of_this_connection()
    with short_lock_timeout():
        assert wait_of_this_connection() in {"100", "100ms"}
    assert wait_of_this_connection() == before
    assert before in {str(settings.DATABASE_TIMEOUT * 1000), f"{settings.DATABASE_TIMEOUT}s"}


@pytest.mark.usefixtures("separate_connections")
def test_the_wait_is_as_configured_after_a_failure_too() -> None:
    before = wait_of_this_connection()
    with pytest.raises(DatabaseError), short_lock_timeout(), connection.cursor() as cursor:
        cursor.execute("SELECT * FROM no_such_table")
    assert wait_of_this_connection() == before


@pytest.mark.django_db
def test_inside_a_transaction_a_failure_undoes_the_block_alone() -> None:
    Entry.objects.create(event="user.created", actor="tests")
    with pytest.raises(DatabaseError), short_lock_timeout(), connection.cursor() as cursor:
        cursor.execute("SELECT * FROM no_such_table")
    assert Entry.objects.count() == 1
