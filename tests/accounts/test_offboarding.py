"""Somebody leaves while they make another service account, on connections of their own, on either database."""

import pytest

from accounts.models import ServiceAccount, User
from accounts.services import offboarding, service_accounts
from accounts.services.offboarding import AccountAction
from rbac.principals import system
from tests.factories import ServiceAccountFactory, UserFactory, principal
from tests.races import at_once

pytestmark = pytest.mark.usefixtures("separate_connections")
ROUNDS = 15


@pytest.mark.parametrize("leave", [offboarding.delete_user, offboarding.disable_user])
def test_promise_44_no_service_account_slips_through_when_its_owner_leaves(leave):
    for number in range(ROUNDS):
        leaver = UserFactory()
        ServiceAccountFactory(owner=leaver)
        actor = principal(leaver)

        def make(actor=actor, number=number):
            return service_accounts.create_service_account(actor=actor, name=f"{leave.__name__}-{number}", role="user")

        def go(leaver=leaver):
            user = User.objects.select_related("role").get(pk=leaver.pk)
            leave(actor=system("tests"), user=user, account_action=AccountAction.REVOKE)

        results = at_once(make, go)
        assert not isinstance(results[1], Exception), results
        left_open = ServiceAccount.objects.filter(is_active=True).exclude(owner__is_active=False)
        assert not left_open.exists(), [(account.name, account.owner) for account in left_open]
