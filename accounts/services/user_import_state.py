"""Everything stored that an import of users depends on, read in a few queries however many rows the file has.

An import is prepared from it without a lock. The lock is held only while `is_current` finds out whether another writer has
changed what was read, and while the prepared rows are written.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, TypeVar

from django.db.models import Max, Model

from accounts.identifiers import BadName, canonical_username, user_uid
from accounts.models import DeletedUser, GroupRole, ServiceAccount, User
from accounts.services.user_csv import UserRow
from core.bulk import batches
from rbac.models import Role
from rbac.permissions import ADMIN, Permission, effective_permissions

_USER: Final = (
    "id", "username", "uid", "password", "email", "display_name", "sign_in", "role_id", "role_source", "is_active",
)  # fmt: skip
_ROLE: Final = ("id", "name", "permissions")
_ACCOUNT: Final = ("id", "name", "uid", "owner_id", "role_id")
_DELETED: Final = ("id", "username", "role", "blocked")
_Values = Sequence[Any]
_Row = TypeVar("_Row", bound=Model)


@dataclass(frozen=True)
class ImportState:
    """The rows that a file of users can collide with or change, as plain values."""

    names: frozenset[str]
    candidates: frozenset[str]  # the ids that new users get if they are free
    users: dict[str, _Values] = field(repr=False)  # by name; with the hashes of passwords
    taken: frozenset[str]  # those of the candidates that are a user's id or name
    ids: frozenset[str]  # those of the names that are ids of users
    account_names: frozenset[str]
    accounts: tuple[_Values, ...]  # of those of the users who have `upstream:admin`: the upstream may refuse its loss
    deleted: dict[str, _Values]
    roles: tuple[_Values, ...]
    group_roles: frozenset[int]  # keys of the roles that groups give
    admins: frozenset[int]  # active ones
    newest: tuple[int, ...]  # keys of the newest user, service account and deleted user

    def is_current(self) -> bool:
        """Return whether the rows are still as they were read, and no new row is in the way. Call it under `lock_policy`.

        The users themselves are compared when they are written (`core.bulk.Update`). Names and ids of users never change, nor do
        names of service accounts, so of the other rows only new ones matter.
        """
        user, account, deleted = self.newest
        ours = self.names | self.candidates
        return (
            not any(ours.intersection(row) for row in User.objects.filter(pk__gt=user).values_list("username", "uid"))
            and self.names.isdisjoint(ServiceAccount.objects.filter(pk__gt=account).values_list("name", flat=True))
            and self.names.isdisjoint(DeletedUser.objects.filter(pk__gt=deleted).values_list("username", flat=True))
            and self.roles == _roles()
            and self.group_roles == _group_roles()
            and self.admins <= _admins()  # more of them forbid nothing
            and self.accounts == _accounts(self._owners)
            and self.deleted == _deleted(sorted(self.deleted))
        )

    @cached_property
    def roles_by_name(self) -> dict[str, Role]:
        return {role.name: role for role in self._roles.values()}

    @cached_property
    def permissions(self) -> dict[str, frozenset[str]]:
        """The permissions of each role, by name."""
        return {name: role.holds for name, role in self.roles_by_name.items()}

    @cached_property
    def group_permissions(self) -> frozenset[str]:
        """The permissions of all roles that groups give."""
        return frozenset[str]().union(*(self._roles[key].holds for key in self.group_roles))

    @cached_property
    def _roles(self) -> dict[int, Role]:
        return {values[0]: _row(Role, _ROLE, values) for values in self.roles}

    @cached_property
    def _owners(self) -> list[str]:
        return _upstream_admins(self.users, self.roles)

    @cached_property
    def _accounts_by_owner(self) -> dict[int, list[ServiceAccount]]:
        by_owner: dict[int, list[ServiceAccount]] = {}
        for values in self.accounts:
            account = _row(ServiceAccount, _ACCOUNT, values)
            account.role = self._roles[account.role_id]
            by_owner.setdefault(values[3], []).append(account)
        return by_owner

    def user(self, name: str) -> User | None:
        """Return a new copy of the user with this canonical name, or None."""
        if name not in self.users:
            return None
        user = self.user_as_read(name)
        user.role = self._roles[user.role_id]
        return user

    def user_as_read(self, name: str) -> User:
        """Return a new copy of the user with this name, without the role."""
        return _row(User, _USER, self.users[name])

    def accounts_of(self, user: User) -> Sequence[ServiceAccount]:
        """Return the service accounts of a user."""
        return self._accounts_by_owner.get(user.pk, ())

    def deleted_user(self, name: str) -> DeletedUser | None:
        """Return what is kept of a deleted user with this name, or None."""
        return _row(DeletedUser, _DELETED, self.deleted[name]) if name in self.deleted else None


def read_state(rows: Iterable[UserRow]) -> ImportState:
    """Read what the import of these rows depends on."""
    newest = tuple(model.objects.aggregate(newest=Max("pk"))["newest"] or 0 for model in (User, ServiceAccount, DeletedUser))
    names = sorted(filter(None, map(name_of, rows)))
    candidates = [user_uid(name) for name in names]
    users, roles = _users(names), _roles()
    return ImportState(
        names=frozenset(names),
        candidates=frozenset(candidates),
        users=users,
        taken=_found(User, "uid", candidates) | _found(User, "username", candidates),
        ids=_found(User, "uid", names),
        account_names=_found(ServiceAccount, "name", names),
        accounts=_accounts(_upstream_admins(users, roles)),
        deleted=_deleted(names),
        roles=roles,
        group_roles=_group_roles(),
        admins=_admins(),
        newest=newest,
    )


def _users(names: Sequence[str]) -> dict[str, _Values]:
    found = (User.objects.filter(username__in=part).values_list("username", *_USER) for part in batches(names))
    return {name: values for rows in found for name, *values in rows}


def _accounts(owners: Sequence[str]) -> tuple[_Values, ...]:
    found = (ServiceAccount.objects.filter(owner__username__in=part).values_list(*_ACCOUNT) for part in batches(owners))
    return tuple(sorted(values for rows in found for values in rows))


def _upstream_admins(users: Mapping[str, _Values], roles: Sequence[_Values]) -> list[str]:
    """Return the names of the users who have `upstream:admin`."""
    table = {pk: effective_permissions(name, permissions) for pk, name, permissions in roles}
    role = _USER.index("role_id")
    return [name for name, values in users.items() if Permission.UPSTREAM_ADMIN in table[values[role]]]


def _deleted(names: Sequence[str]) -> dict[str, _Values]:
    found = (DeletedUser.objects.filter(username__in=part).values_list("username", *_DELETED) for part in batches(names))
    return {name: values for rows in found for name, *values in rows}


def _roles() -> tuple[_Values, ...]:
    return tuple(Role.objects.order_by("pk").values_list(*_ROLE))


def _group_roles() -> frozenset[int]:
    return frozenset(GroupRole.objects.values_list("role_id", flat=True))


def _admins() -> frozenset[int]:
    return frozenset(User.objects.filter(is_active=True, role__name=ADMIN).values_list("pk", flat=True))


def _found(model: type[User | ServiceAccount], column: str, values: Sequence[str]) -> frozenset[str]:
    """Return those of the values that the column has."""
    found = (model.objects.filter(**{f"{column}__in": part}).values_list(column, flat=True) for part in batches(values))
    return frozenset(value for rows in found for value in rows)


def name_of(row: UserRow) -> str:
    """Return the canonical name of a row, or "" if it has none."""
    try:
        return canonical_username(row.username)
    except BadName:
        return ""


def _row(model: type[_Row], names: Sequence[str], values: _Values) -> _Row:
    """Return a stored row of which these columns were read."""
    read = dict(zip(names, values, strict=True))
    in_order = [field.attname for field in model._meta.concrete_fields if field.attname in read]  # as `from_db` expects
    return model.from_db(None, in_order, [read[name] for name in in_order])
