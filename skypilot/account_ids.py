"""The id of a service account in the SkyPilot API: behind SkyAuth, the server's own id of the caller `name@sa-...`.

The server derives it from that name, as for a user, and stores it with clusters and jobs. SkyPilot's dashboard counts them by it.
"""

from collections.abc import Collection

from django.conf import settings

from accounts.identifiers import user_uid
from accounts.models import ServiceAccount
from rbac.principals import Kind, Principal, account_identity


def account_id(account: ServiceAccount) -> str:
    """Return the id of an account: the server's, or without a server (SKYPILOT_URL) the account's own, `sa-...`."""
    return user_uid(account.upstream_name) if settings.SKYPILOT_URL else account.uid


def caller_id(principal: Principal) -> str:
    """Return the id of a caller."""
    is_account = principal.kind is Kind.SERVICE_ACCOUNT
    return user_uid(principal.identity) if is_account and settings.SKYPILOT_URL else principal.uid


def accounts_by_id(uids: Collection[str]) -> dict[str, ServiceAccount]:
    """Return the accounts with these ids, their own or the server's, by the id that was asked for.

    The server's ids are not stored, so all names are read once if an id is not found otherwise.
    """
    accounts = ServiceAccount.objects.select_related("role")
    found = {account.uid: account for account in accounts.filter(uid__in=uids)}
    missing = set(uids) - found.keys()
    if missing and settings.SKYPILOT_URL:
        names = ServiceAccount.objects.order_by().values_list("pk", "name", "uid")
        server_ids = {pk: user_uid(account_identity(name, uid)) for pk, name, uid in names}
        rows = accounts.in_bulk([pk for pk, server_id in server_ids.items() if server_id in missing])
        found |= {server_ids[pk]: account for pk, account in rows.items()}
    return found
