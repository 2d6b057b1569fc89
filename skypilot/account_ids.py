"""The id of a service account in the SkyPilot API: behind SkyAuth, the server's own id of the caller `name@sa-...`.

The server derives it from that name, as for a user, and stores it with clusters and jobs. SkyPilot's dashboard counts them by it.
"""

from django.conf import settings

from accounts.identifiers import user_uid
from accounts.models import ServiceAccount
from rbac.principals import Kind, Principal


def account_id(account: ServiceAccount) -> str:
    """Return the id of an account: the server's, or without a server (SKYPILOT_URL) the account's own, `sa-...`."""
    return user_uid(account.upstream_name) if settings.SKYPILOT_URL else account.uid


def caller_id(principal: Principal) -> str:
    """Return the id of a caller."""
    is_account = principal.kind is Kind.SERVICE_ACCOUNT
    return user_uid(principal.identity) if is_account and settings.SKYPILOT_URL else principal.uid


def account_of(uid: str) -> ServiceAccount | None:
    """Return the account with this id, its own or the server's; None if there is none."""
    accounts = ServiceAccount.objects.select_related("role")
    account = accounts.filter(uid=uid).first()
    if account is None and settings.SKYPILOT_URL:
        account = next((each for each in accounts.iterator() if account_id(each) == uid), None)
    return account
