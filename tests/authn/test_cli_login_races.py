"""Two users who authorize the same CLI login at once, on connections of their own, on either database."""

import base64
import hashlib

import pytest

from accounts.models import CliAuthorization, Session
from authn import cli_login
from core.errors import Conflict
from tests.factories import UserFactory, principal
from tests.races import at_once

pytestmark = pytest.mark.usefixtures("separate_connections")
ROUNDS = 20


def challenge_of(verifier):
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def test_promise_44_the_cli_becomes_the_user_who_authorized_first():
    people = [UserFactory(username=f"{name}@example.com") for name in ("alice", "mallory")]
    for number in range(ROUNDS):
        verifier = f"{number:043}"
        challenge = challenge_of(verifier)

        def ask(user, challenge=challenge):
            cli_login.authorize(actor=principal(user), challenge=challenge, cookies={})
            return user

        results = at_once(*[lambda user=user: ask(user) for user in people])
        winner = [result for result in results if not isinstance(result, Exception)]
        assert len(winner) == 1, results
        assert [type(result) for result in results if isinstance(result, Exception)] == [Conflict]
        handed = cli_login.redeem(verifier=verifier, client="192.0.2.2", agent="a command line")
        assert handed is not None
        assert handed.uid == winner[0].uid
    assert not CliAuthorization.objects.exclude(session_auth_hash="").exists(), "all of them are redeemed"
    assert Session.objects.count() == ROUNDS
