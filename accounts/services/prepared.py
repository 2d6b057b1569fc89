"""Changes that are prepared without the policy lock, and written under it if nothing has changed in between."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from django.db import connection, transaction
from django.db.models import Max

from accounts.models import PolicyRevision, ServiceAccount, Token, User
from rbac.models import Role
from rbac.services import lock_policy

P = TypeVar("P")
R = TypeVar("R")
_ATTEMPTS: Final = 3


def prepare_first(prepare: Callable[[], P], write: Callable[[P], R]) -> R:
    """Call `prepare`, then take the policy lock, and return what `write` returns for the prepared value.

    `prepare` reads roles, users, service accounts and tokens, and changes nothing. If one of them has changed before the lock is
    taken, it is called again, at last under the lock. Inside a transaction, where the lock may be held already, that is all.
    """
    if not connection.in_atomic_block:
        for _ in range(_ATTEMPTS):
            before = _state()
            prepared = prepare()
            with transaction.atomic():
                lock_policy()
                if _state() == before:
                    return write(prepared)
    with transaction.atomic():
        lock_policy()
        return write(prepare())


def _state() -> tuple[Any, ...]:
    """Return values that change with every role, user, service account and token, apart from last-used timestamps.

    New users, service accounts and tokens do not change the policy revision (`revision.triggers`); their keys increase.
    """
    newest = (model._default_manager.aggregate(newest=Max("pk"))["newest"] for model in (User, ServiceAccount, Token))
    roles = Role.objects.order_by("pk").values_list("pk", "name", "permissions")
    return PolicyRevision.objects.values_list("number", "value").first(), *newest, *roles
