"""The id of a service account in the SkyPilot API: behind SkyAuth, the server's own id of the caller `name@sa-...`.

The server derives it from that name, as for a user, and stores it with clusters and jobs. SkyPilot's dashboard counts them by it.
"""

from collections.abc import Collection

from django.conf import settings

from accounts.identifiers import user_uid
from accounts.models import ServiceAccount
from rbac.principals import Kind, Principal, account_identity


def account_id(name: str, uid: str) -> str:
    """Return the id of an account: the server's, or without a server (SKYPILOT_URL) the account's own, `sa-...`."""
    return user_uid(account_identity(name, uid)) if settings.SKYPILOT_URL else uid


def caller_id(principal: Principal) -> str:
    """Return the id of a caller."""
    is_account = principal.kind is Kind.SERVICE_ACCOUNT
    return user_uid(principal.identity) if is_account and settings.SKYPILOT_URL else principal.uid


def accounts_by_id(uids: Collection[str]) -> dict[str, ServiceAccount]:
    """Return the accounts with these ids, their own or the server's, by the id that was asked for."""
    accounts = ServiceAccount.objects.select_related("role")
    found = {account.uid: account for account in accounts.filter(uid__in=uids)}
    missing = set(uids) - found.keys()
    if missing and settings.SKYPILOT_URL:
        rows = accounts.filter(upstream_uid__in=(*missing, ""))  # "": inserted by an older version
        by_server_id = {user_uid(account.upstream_name): account for account in rows}
        found |= {uid: account for uid, account in by_server_id.items() if uid in missing}
    return found
