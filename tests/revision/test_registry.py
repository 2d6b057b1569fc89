"""Which tables are watched, and what a model can declare."""

import pytest

from accounts.models import User
from core.watched import Watched
from revision.registry import watched_tables


def test_a_model_cannot_ignore_a_field_that_it_does_not_have(monkeypatch):
    monkeypatch.setattr(User, "watched", Watched(ignored_fields=frozenset({"last_sen_at"})))
    with pytest.raises(ValueError, match="last_sen_at"):
        watched_tables()
