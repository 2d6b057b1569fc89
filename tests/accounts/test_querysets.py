"""`TokenQuerySet.active` and `authn.identify` agree on which tokens are accepted, whatever state each of them is in."""

from datetime import timedelta
from itertools import product

import pytest
from django.db.models import Count
from django.utils import timezone

from accounts.models import ServiceAccount, Token
from accounts.querysets import active_token
from authn.credentials import Bearer, InvalidCredential
from authn.identify import identify
from gateway.database_metrics import counted
from tests.factories import ServiceAccountFactory, UserFactory, make_token

pytestmark = pytest.mark.django_db

OWNERS = {"none": None, "active": True, "disabled": False}
DAYS = {"never": None, "later": 30, "past": -1}


def identified(plaintext):
    """Return whether `authn.identify` accepts this token."""
    try:
        identify(Bearer(plaintext.encode()), client="")
    except InvalidCredential:
        return False
    return True


@pytest.fixture
def tokens():
    """One token for each combination of expiry, revocation, account and owner: plaintexts by key id."""
    plaintexts = {}
    for days, revoked, account_active, owner_active in product(DAYS.values(), (False, True), (True, False), OWNERS.values()):
        owner = None if owner_active is None else UserFactory(is_active=owner_active)
        account = ServiceAccountFactory(owner=owner, is_active=account_active)
        token, plaintext = make_token(account, days=days, revoked_at=timezone.now() if revoked else None)
        plaintexts[token.key_id] = plaintext
    return plaintexts


@pytest.mark.parametrize("enabled", [True, False])
def test_active_tokens_are_those_that_identify_accepts(tokens, settings, enabled):
    settings.ENABLE_SERVICE_ACCOUNTS = enabled
    accepted = {key_id for key_id, plaintext in tokens.items() if identified(plaintext)}
    active = set(Token.objects.active().values_list("key_id", flat=True))
    assert active == accepted
    assert len(accepted) == (4 if enabled else 0)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_condition_behind_a_prefix_counts_the_same_tokens(tokens, settings, enabled):
    settings.ENABLE_SERVICE_ACCOUNTS = enabled
    counted = ServiceAccount.objects.annotate(n=Count("tokens", filter=active_token("tokens__"))).filter(n=1)
    assert set(counted) == {token.account for token in Token.objects.active()}


@pytest.mark.parametrize("enabled", [True, False])
def test_the_metric_counts_the_tokens_that_are_accepted(tokens, settings, enabled):
    settings.ENABLE_SERVICE_ACCOUNTS = enabled
    samples = [sample for metric in counted() for sample in metric.samples]
    values = {sample.name: sample.value for sample in samples if not sample.labels}
    assert values["skyauth_tokens"] == sum(identified(plaintext) for plaintext in tokens.values())


def test_every_token_is_in_exactly_the_state_that_its_row_names(tokens):
    states = {state: set(Token.objects.in_state(state)) for state in ("active", "expired", "revoked")}
    assert states == {state: {token for token in Token.objects.all() if token.state() == state} for state in states}
    assert sum(map(len, states.values())) == len(tokens)


def test_expiring_and_unused_tokens_are_active_ones(pipeline):
    now = timezone.now()
    soon, _ = make_token(pipeline, days=3)
    later, _ = make_token(pipeline, days=30)
    unused, _ = make_token(pipeline, days=None, created_at=now - timedelta(days=100))
    stale, _ = make_token(pipeline, days=None, created_at=now - timedelta(days=200), last_used_at=now - timedelta(days=95))
    make_token(pipeline, days=None, created_at=now - timedelta(days=200), last_used_at=now)
    assert set(Token.objects.expiring_within(7)) == {soon}
    assert set(Token.objects.expiring_within(30)) == {soon, later}
    assert set(Token.objects.unused_for(90)) == {unused, stale}
    pipeline.is_active = False
    pipeline.save()
    assert not Token.objects.expiring_within(7).exists()
    assert not Token.objects.unused_for(90).exists()
