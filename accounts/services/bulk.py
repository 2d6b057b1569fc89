"""Bulk actions: many changes, each in a transaction of its own, so that one that fails does not stop the others."""

from collections.abc import Callable

from django.db import transaction

from accounts.principal_lookup import require_unchanged
from core.agreement import asks_first
from rbac.principals import Principal
from rbac.services import lock_policy


@asks_first
@transaction.atomic
def one_of_many(actor: Principal, change: Callable[[], object]) -> None:
    """Make one change of a bulk action, in a transaction of its own. The action can take a minute.

    Raises Forbidden if the actor has lost a permission since it began, and what `change` raises.
    """
    lock_policy()
    require_unchanged(actor, "Your permissions were reduced in the meantime.")
    change()
