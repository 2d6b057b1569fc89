"""The writer that collects last-used timestamps beside the requests."""

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from revision import last_used
from revision.last_used import Touch, TouchWriter
from tests.races import separate_connections

__all__ = ["separate_connections"]


@pytest.mark.django_db
def test_the_writer_writes_the_first_touch_of_a_row_and_forgets_it(pipeline, pipeline_token):
    token = pipeline.tokens.get()
    writer, now = TouchWriter(), timezone.now()
    for later in (0, 5):
        writer.add(Touch(last_used.TOKEN, token.pk, None, "192.0.2.1"), now + timedelta(seconds=later))
    writer.flush()
    token.refresh_from_db()
    assert (token.last_used_at, token.last_used_from) == (now, "192.0.2.1")
    token.last_used_at = None
    token.save()
    writer.flush()
    token.refresh_from_db()
    assert token.last_used_at is None, "it was written once"


@pytest.mark.sqlite
def test_why_touches_could_not_be_written_is_logged_but_not_that_another_writer_was_busy(
    separate_connections, pipeline, pipeline_token, caplog
):
    writer, touch = TouchWriter(), Touch(last_used.TOKEN, pipeline.tokens.get().pk, None, "192.0.2.1")
    with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writer.add(touch, timezone.now())
        writer.flush()
        assert caplog.messages == []
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA query_only = on")
        try:
            writer.add(touch, timezone.now())
            writer.flush()
        finally:
            cursor.execute("PRAGMA query_only = off")
    assert caplog.messages == ["The times of last uses could not be written: attempt to write a readonly database"]
