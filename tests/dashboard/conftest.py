"""Fixtures of the dashboard tests."""

from collections.abc import Callable

import pytest
from django.test import Client

from accounts.models import User

Visit = Callable[..., Client]


@pytest.fixture
def visit() -> Visit:
    """Returns a browser in which a user is signed in: `visit(bob)`."""

    def open_for(user: User, **options: bool) -> Client:
        browser = Client(**options)
        browser.force_login(user)
        return browser

    return open_for
