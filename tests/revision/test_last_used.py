"""The writer that collects last-used timestamps beside the requests."""

from datetime import timedelta

import pytest
from django.utils import timezone

from revision import last_used
from revision.last_used import Touch, TouchWriter


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
