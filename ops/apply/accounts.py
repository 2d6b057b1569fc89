"""The service accounts of a manifest: what differs is found out in memory, and written in a few statements."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Self

from accounts.identifiers import account_uid
from accounts.models import ServiceAccount, User
from accounts.services import account_rules
from accounts.services.account_batch import AccountBatch
from accounts.services.account_rules import AccountChange
from accounts.services.prepared import Dependencies
from accounts.services.role_defaults import least_of
from core.bulk import batches
from core.errors import NotFound, ServiceError
from ops.apply.changes import Change, Values, changed
from ops.apply.manifest import Item
from rbac.models import Role
from rbac.principals import Principal
from rbac.services import role_in

KIND = "service account"
Failure = tuple[Change, int | None, ServiceError]
"""A change that is refused, the line of the manifest if it has one, and the error."""


class AccountSection:
    """What the section `service_accounts` of a manifest changes, and, with `prune`, deletes."""

    def __init__(self, actor: Principal, items: Sequence[Item]) -> None:
        self._actor = actor
        self._items = items
        self.failures: list[Failure] = []
        self._batch = AccountBatch(actor)
        self._planned: dict[str, tuple[Change, int | None]] = {}  # by the name of the account
        names = [item.name for item in items]
        self._accounts = {account.name: account for part in batches(names) for account in _accounts().filter(name__in=part)}
        self._roles = {role.name: role for role in Role.objects.all()}
        owners = {str(item.values["owner"]) for item in items if item.values.get("owner")}
        self._users = {user.username: user for user in _users([*names, *owners])}

    def plan(self, *, prune: bool) -> Self:
        """Decide about each account, prepare the changes, and return the section. `prune` also deletes all other accounts."""
        for item in self._items:
            account, values = self._accounts.get(item.name), item.values
            if account is None:
                new = dict(values)
                self._make(Change("add", KIND, item.name, new=new), item.line, partial(self._create, item.name, new))
            elif change := changed(KIND, item.name, account_rules.account_values(account), values):
                self._make(change, item.line, partial(self._change, account, change.new))
        if prune:
            named = {item.name for item in self._items}
            others = ServiceAccount.objects.order_by("name").values_list("pk", "name")
            keys = [pk for pk, name in others if name not in named]
            for account in (account for part in batches(keys) for account in _accounts().filter(pk__in=part)):
                self._make(Change("remove", KIND, account.name), None, partial(self._batch.delete, account))
        self._batch.prepare()
        return self

    @property
    def dependencies(self) -> Dependencies:
        """What the plan depends on."""
        return self._batch.dependencies

    def write(self) -> list[Change]:
        """Write the changes, and return them. Call it under `lock_policy`. Raises NotAsked."""
        refusals = self._batch.refusals()
        for name, refusal in refusals.items():
            self.failures.append((*self._planned[name], refusal))
        if not refusals:
            self._batch.write()
        return [change for change, _ in self._planned.values()]

    def _make(self, change: Change, line: int | None, decide: Callable[[], object]) -> None:
        try:
            decide()
        except ServiceError as error:
            self.failures.append((change, line, error))
        else:
            self._planned[change.name] = change, line

    def _create(self, text: str, values: dict[str, Any]) -> None:
        """Create the account, and add the role that it gets to the values, which are shown."""
        owner = self._owner(values.get("owner"))
        account_rules.require_creation(self._actor, owner)
        if owner is not None:
            account_rules.require_active_owner(owner, field="owner")
        role = self._role(values.get("role")) or least_of(self._roles, self._actor, owner.role if owner else None)
        name = account_rules.canonical_name(text)
        account_rules.require_free_name(name, is_account=name in self._accounts, is_user=name in self._users)
        account = account_rules.new_account(
            actor=self._actor,
            name=name,
            uid=account_uid(),
            role=role,
            owner=owner,
            description=values.get("description", ""),
        )
        self._batch.create(account, active=values.get("active") is not False)
        values["role"] = role.name

    def _change(self, account: ServiceAccount, new: Values) -> None:
        owner = self._owner(new.get("owner"))
        change = AccountChange(
            role=self._role(new.get("role")),
            active=new.get("active"),
            description=new.get("description"),
            owner=owner,
            unowned="owner" in new and owner is None,
        )
        self._batch.change(account, change)

    def _role(self, name: str | None) -> Role | None:
        return None if name is None else role_in(self._roles, name)

    def _owner(self, name: str | None) -> User | None:
        """Return the user of this name; an id is not accepted, so that an owner has one spelling. Raises NotFound."""
        if not name:
            return None
        if name not in self._users:
            raise NotFound(f"The owner {name!r} does not exist.")
        return self._users[name]


def _accounts() -> Any:
    return ServiceAccount.objects.select_related("role", "owner__role")


def _users(names: Sequence[str]) -> Iterable[User]:
    users = User.objects.select_related("role")
    return (user for part in batches(names) for user in users.filter(username__in=part))
