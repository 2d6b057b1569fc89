"""What each row of a file does to which user, decided from the stored state alone: without queries, so without a lock."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from accounts.models import FirstAdmin, RoleSource, SignIn, User
from accounts.services import deleted_users, password_limits, upstream, user_rules
from accounts.services.role_defaults import least_of
from accounts.services.user_csv import UserRow, is_hash, user_values
from accounts.services.user_csv_columns import VALUES
from accounts.services.user_import_report import RowAction, RowChange
from accounts.services.user_import_state import ImportState
from accounts.services.users import clear_failures, uid_is_taken, validate_new_password
from audit.events import Event
from audit.record import entry
from core.agreement import CallerChange
from core.bulk import Insert, Update
from core.errors import Invalid, ServiceError
from rbac.permissions import ADMIN
from rbac.principals import Principal
from rbac.services import role_in
from rbac.validation import validate_fields

_CAN_BE_EMPTIED: Final = ("email", "display_name")  # an empty cell of another column leaves the value as it is
_PROFILE: Final = ("email", "display_name", "sign_in")
_CHANGEABLE: Final = ("role", "role_source", "email", "display_name", "sign_in", "is_active")


class ImportDecision:
    """The changes of all rows, and the rows of the database to write them with, unless one of the changes is an error."""

    def __init__(self, actor: Principal) -> None:
        self.actor = actor
        self.changes: list[RowChange] = []
        self.new: dict[int, User] = {}  # by line
        self.changed: list[User] = []
        self.before: list[User] = []  # the same users as they were read
        self.events: list[tuple[Event, str, dict[str, Any]]] = []  # with the name of the user and the data
        self.returned: list[int] = []  # keys of deleted users who are created again
        self.enabled: list[str] = []
        self.without_password: list[int] = []  # keys of users who now use single sign-on alone
        self.questions: dict[int, list[CallerChange]] = {}  # by line

    def prepared(self, hashed: Mapping[int, str]) -> "Prepared":
        """Return the statements that write the decision. `hashed` has the passwords of new users by line."""
        for line, user in self.new.items():
            user.password = hashed.get(line) or user_rules.unusable_password()
        return Prepared(
            Insert(list(self.new.values())),
            Update(self.changed, self.before, _CHANGEABLE),
            Insert([entry(event, actor=self.actor, target=name, data=data) for event, name, data in self.events]),
            self.returned,
            self.enabled,
            self.without_password,
            any(user.role.name == ADMIN for user in (*self.new.values(), *self.changed)),
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """A decision as statements."""

    new: Insert
    changed: Update
    entries: Insert
    returned: Sequence[int]
    enabled: Sequence[str]
    without_password: Sequence[int]
    has_admin: bool

    def write(self) -> bool:
        """Write the decision, and return whether all users were still as they were read. If not, roll back.

        Call it under `lock_policy` after `record`, in the state that the decision was made from.
        """
        if self.has_admin:
            FirstAdmin.objects.get_or_create(id=1)
        deleted_users.remove(self.returned)
        clear_failures(self.enabled)
        password_limits.end_password_sign_ins(self.without_password)
        self.new.run()
        return self.changed.run()

    def record(self) -> None:
        """Write the audit entries, in the same transaction. That needs no lock, and takes as long as the rest."""
        self.entries.run()


class Rules:
    """Decides row after row. What the actor is not allowed to do is an error of the row."""

    def __init__(self, actor: Principal, state: ImportState, *, update: bool) -> None:
        self._actor = actor
        self._state = state
        self._update = update
        self._decision = ImportDecision(actor)
        self._admins = set(state.admins)  # an admin whom a row makes does not count
        self._lines: dict[str, int] = {}  # by name
        self._uids: set[str] = set()  # of new users

    def decide(self, rows: Sequence[UserRow], progress: Callable[[int], None] = lambda _: None) -> ImportDecision:
        """Return what the rows do. `progress` is called with the number of each row."""
        for number, row in enumerate(rows, 1):
            progress(number)
            self._decision.changes.append(self._decide(row))
        return self._decision

    def _decide(self, row: UserRow) -> RowChange:
        try:
            name = user_rules.canonical_name(row.username)
            if name in self._lines:
                return refused(row, f"{name} is already on line {self._lines[name]}.")
            user = self._state.user(name) if self._update else None
            change = self._create(row, name) if user is None else self._change(row, user)
        except ServiceError as error:
            return refused(row, error.message)
        self._lines[name] = row.line
        return change

    def _create(self, row: UserRow, name: str) -> RowChange:
        state, values = self._state, _values(row)
        user_rules.new_name(name)
        user_rules.require_free_name(
            name,
            is_user=name in state.users,
            is_uid=name in state.ids or name in self._uids,
            is_account=name in state.account_names,
        )
        role = values.get("role")
        user = user_rules.new_user(
            actor=self._actor,
            name=name,
            role=least_of(state.roles_by_name, self._actor) if role is None else role_in(state.roles_by_name, role),
            source=RoleSource.DEFAULT if role is None else RoleSource.MANUAL,
            email=values.get("email"),
            display_name=values.get("display_name", ""),
            sign_in=values.get("sign_in"),
            active=values.get("active") != "false",
            has_password=bool(row.password),
        )
        if row.password:
            self._require_group_roles(user)
        user.uid = user_rules.first_free_uid(name, self._uid_is_taken)
        validate_fields(user, exclude=("role", "password"))
        deleted = state.deleted_user(name)
        if deleted is not None:
            deleted_users.require_return(self._actor, deleted, state.permissions)
            self._decision.returned.append(deleted.pk)
        self._record(Event.USER_CREATED, user, user_rules.creation(user, unblocked=deleted is not None and deleted.blocked))
        self._decision.new[row.line] = user
        self._uids.add(user.uid)
        return RowChange(row.line, name, RowAction.CREATED, user_values(user), password=bool(row.password))

    def _uid_is_taken(self, uid: str) -> bool:
        """Return whether a user, stored or new, has this id or name. Only after a collision, the database is asked."""
        if uid in self._state.taken or uid in self._uids or uid in self._lines:
            return True
        return uid not in self._state.candidates and uid_is_taken(uid)

    def _change(self, row: UserRow, user: User) -> RowChange:
        if row.password:
            raise Invalid.field("password", f"{user.username} already exists. An import sets passwords of new users only.")
        before, held = user_values(user), user.role.holds
        new = {name: value for name, value in _values(row).items() if value != before[name]}
        if "role" in new:
            role = role_in(self._state.roles_by_name, new["role"])
            data = user_rules.change_role(self._actor, user, role, RoleSource.MANUAL, self._has_other_admin)
            self._record(Event.USER_UPDATED, user, data)
            changes = upstream.user_role_changes(user, held, user.role.holds, self._state.accounts_of(user))
            if changes:
                self._decision.questions[row.line] = changes
        if not new.keys().isdisjoint(_PROFILE):
            self._change_profile(user, {name: new.get(name) for name in _PROFILE})
        if "active" in new:
            data = user_rules.change_active(self._actor, user, new["active"] == "true", self._has_other_admin)
            self._record(Event.USER_UPDATED, user, data)
            if user.is_active:
                self._decision.enabled.append(user.username)
        after = user_values(user)
        changed = {name: before[name] for name in VALUES if after[name] != before[name]}
        if changed:
            self._decision.changed.append(user)
            self._decision.before.append(self._state.user_as_read(user.username))
            if not user.is_superuser:
                self._admins.discard(user.pk)
        return RowChange(row.line, user.username, RowAction.CHANGED if changed else RowAction.SAME, after, changed)

    def _record(self, event: Event, user: User, data: dict[str, Any] | None) -> None:
        if data is not None:
            self._decision.events.append((event, user.username, data))

    def _change_profile(self, user: User, new: Mapping[str, str | None]) -> None:
        before = user.sign_in
        data = user_rules.change_profile(
            self._actor, user, email=new["email"], display_name=new["display_name"], sign_in=new["sign_in"]
        )
        if user.sign_in != before:
            self._require_group_roles(user)
        if data is not None and user.sign_in == SignIn.SSO:
            self._decision.without_password.append(user.pk)
        validate_fields(user, exclude=("role", *user.get_deferred_fields()))
        self._record(Event.USER_UPDATED, user, data)

    def _require_group_roles(self, user: User) -> None:
        password_limits.require_permissions_of_groups(self._actor, user.username, user.sign_in, self._state.group_permissions)

    def _has_other_admin(self, user: User) -> bool:
        return len(self._admins) > (user.pk in self._admins)


def check_password(row: UserRow, change: RowChange) -> RowChange:
    """Return the change of a row, or an error if its password is too weak or no password."""
    if change.error or not row.password:
        return change
    if is_hash(row.password):
        return refused(row, "The password is a hash. Hashes are not imported; set a new password.")
    profile = {name: change.values[name] for name in _CAN_BE_EMPTIED}
    try:
        validate_new_password(row.password, User(username=change.username, **profile))
    except ServiceError as error:
        return refused(row, error.message)
    return change


def refused(row: UserRow, error: str) -> RowChange:
    """Return the change of a row that does nothing, because of an error."""
    cells = {name: row.values.get(name, "") for name in VALUES}
    return RowChange(row.line, row.username, RowAction.REFUSED, cells, password=bool(row.password), error=error)


def _values(row: UserRow) -> dict[str, str]:
    """Return the values that a row gives its user, without name and password. Raises Invalid."""
    values = {
        name: row.values[name] for name in VALUES if row.values.get(name) or (name in row.values and name in _CAN_BE_EMPTIED)
    }
    if "active" in values:
        values["active"] = values["active"].lower()  # spreadsheets write TRUE
        if values["active"] not in {"true", "false"}:
            raise Invalid.field("active", "The column active has true or false.")
    return values
