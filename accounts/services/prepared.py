"""Changes that are prepared without the policy lock, and written under it if nothing that they depend on has changed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from django.db import connection, transaction
from django.db.models import Max, Model

from accounts.models import PolicyChange, PolicyRevision, ServiceAccount, Token, User
from core.bulk import batches
from core.watched import EVERYTHING, Tag
from rbac.models import Role
from rbac.services import lock_policy

P = TypeVar("P")
R = TypeVar("R")
_ATTEMPTS: Final = 3


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What a prepared change depends on besides the roles, of which all count."""

    rows: set[Tag] = field(default_factory=set)  # as the policy revision logs their changes
    free_names: set[str] = field(default_factory=set)  # that no user and no account may get
    owners: set[int] = field(default_factory=set)  # keys of users for whom a new or transferred account is a change
    accounts: set[int] = field(default_factory=set)  # keys of accounts that may get no new token

    def add(self, *rows: User | ServiceAccount | Token | None) -> None:
        """Depend on these rows, and on the owner of an account."""
        for row in rows:
            if row is not None:
                self.rows.add((row.watched.kind, str(row.pk)))
            if isinstance(row, ServiceAccount):
                self.add(row.owner)


@dataclass(frozen=True, slots=True)
class _State:
    """The policy revision, the roles, and the keys of the newest user, account and token: inserts of these are not logged."""

    number: int
    value: str
    roles: tuple[Any, ...]
    newest: tuple[int, int, int]

    def has_kept(self, depends: Dependencies) -> bool:
        """Return whether the dependencies are as they were in this state."""
        now = _state()
        if now.roles != self.roles:
            return False
        user, account, token = self.newest
        users = User.objects.filter(pk__gt=user).values_list("username", flat=True)
        accounts = list(ServiceAccount.objects.filter(pk__gt=account).values_list("name", "owner_id"))
        owners = Token.objects.filter(pk__gt=token).values_list("account_id", flat=True)
        return (
            depends.free_names.isdisjoint(users)
            and depends.free_names.isdisjoint(name for name, _ in accounts)
            and depends.owners.isdisjoint(owner for _, owner in accounts)
            and depends.accounts.isdisjoint(owners)
            and self._has_kept_rows(now, depends)
        )

    def _has_kept_rows(self, now: "_State", depends: Dependencies) -> bool:
        """Return whether the log of the revision leads from this state to the one `now` without a change that matters."""
        changes = PolicyChange.objects.filter(number__gt=self.number).order_by("number", "position")
        number, value = self.number, self.value
        accounts = set()  # which others have changed
        for at, previous, after, kind, key in changes.values_list("number", "previous", "value", "kind", "key"):
            if at != number and (at, previous) != (number + 1, value):
                return False  # an older change is not in the log any more
            number, value = at, after
            if kind == EVERYTHING or (kind, key) in depends.rows:
                return False
            if kind == ServiceAccount.watched.kind:
                accounts.add(key)
        return value == now.value and not _is_owned(accounts, depends.owners)


def _is_owned(accounts: set[str], owners: set[int]) -> bool:
    """Return whether one of these accounts has one of the owners now."""
    if not accounts or not owners:
        return False
    found = (ServiceAccount.objects.filter(pk__in=part).values_list("owner_id", flat=True) for part in batches(sorted(accounts)))
    return any(not owners.isdisjoint(part) for part in found)


def _state() -> _State:
    number, value = PolicyRevision.objects.values_list("number", "value").first() or (0, "")
    roles = tuple(Role.objects.order_by("pk").values_list("pk", "name", "permissions"))
    return _State(number, value, roles, (_newest(User), _newest(ServiceAccount), _newest(Token)))


def _newest(model: type[Model]) -> int:
    return model._default_manager.aggregate(key=Max("pk"))["key"] or 0


def prepare_first(prepare: Callable[[], tuple[P, Dependencies]], write: Callable[[P], R]) -> R:
    """Call `prepare`, then take the policy lock, and return what `write` returns for the prepared value.

    `prepare` changes nothing, and also returns what the value depends on. If that has changed before the lock is taken, it is
    called again, at last under the lock. Inside a transaction, where the lock may be held already, that is all.
    """
    if not connection.in_atomic_block:
        for _ in range(_ATTEMPTS):
            before = _state()
            prepared, depends = prepare()
            with transaction.atomic():
                lock_policy()
                if before.has_kept(depends):
                    return write(prepared)
    with transaction.atomic():
        lock_policy()
        return write(prepare()[0])
