"""The page that changes the role of users, after a confirmation that names each user, the old and the new role."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import reverse

from accounts.models import RoleSource, User
from accounts.services import users
from core.errors import Invalid
from dashboard.base import Page
from dashboard.forms import role_choices
from dashboard.lists import PAGE_SIZE
from rbac.grants import gained
from rbac.models import Role
from rbac.permissions import MEANINGS, Permission
from rbac.services import get_role, require_all


@dataclass(frozen=True, slots=True)
class RoleChange:
    """The change that a page asks about: `role` is None while it has not been chosen."""

    users: Sequence[User]
    role: Role | None

    @property
    def gained(self) -> list[tuple[Permission, str]]:
        """The administrative permissions that at least one of the users gains, with their meanings."""
        names = {name for user in self.users for name in gained(user.role.holds, self.role.holds if self.role else ())}
        return [(Permission(name), MEANINGS[Permission(name)]) for name in sorted(names)]

    @property
    def fingerprint(self) -> str:
        """A hash of everything that the confirmation names: who, the old roles, the new one and the permissions that it adds."""
        gained = [str(permission) for permission, _ in self.gained]
        named = [(user.uid, user.role.name) for user in self.users], self.role and self.role.name, gained
        return sha256(repr(named).encode()).hexdigest()[:16]


class ChangeRolePage(Page):
    """Asks which role the selected users get, then for a confirmation, and changes the roles on the POST that confirms it.

    `uid` names the users, once for each; `role` the new role; `back` the page to return to. A GET changes nothing, nor does a
    POST whose `seen` is not the fingerprint of the change, for example because a role was changed in the meantime.
    """

    needs = (Permission.USERS_WRITE,)
    section = "users"
    template = "dashboard/user_roles.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Return the page that asks."""
        try:
            return self._ask(self._change(request.GET))
        except Invalid as error:
            messages.error(request, error.message)
            return HttpResponseRedirect(self.return_path(self.page_path()))

    def post(self, request: HttpRequest) -> HttpResponse:
        """Change the roles, each on their own, and list the users for whom that failed."""
        change = self._change(request.POST)
        if change.role is None or request.POST.get("seen") != change.fingerprint:
            return self._ask(change, is_repeated="seen" in request.POST)
        back, role = self.return_path(self.page_path()), change.role.name
        if len(change.users) == 1:
            [user] = change.users
            users.set_role(actor=self.principal, user=user, role=role)
            return self.redirect_to(back, f"The role of {user.username} was changed from {user.role.name} to {role}.")
        names = {user.uid: user.username for user in change.users}
        outcomes = users.bulk_set_role(actor=self.principal, uids=list(names), role=role)
        changed = [names[outcome.target] for outcome in outcomes if outcome.error is None]
        failed = [(names[outcome.target], outcome.error) for outcome in outcomes if outcome.error]
        if failed:
            return self.render("dashboard/bulk_role.html", changed=changed, failed=failed, role=role, back=back)
        return self.redirect_to(back, f"{len(changed)} users now have the role {role}.")

    def _change(self, query: QueryDict) -> RoleChange:
        """Return the change that the parameters describe. Raises Invalid; Forbidden if no one may make it."""
        uids, name = dict.fromkeys(query.getlist("uid")), query.get("role", "")
        if not uids:
            raise Invalid("Select at least one user.")
        if len(uids) > PAGE_SIZE:
            raise Invalid(f"Too many users: select at most {PAGE_SIZE} at once.")
        rows = list(User.objects.filter(uid__in=uids).select_related("role").order_by("username"))
        if len(rows) < len(uids):
            raise Invalid("One of the selected users does not exist any more. Select the users again.")
        role = get_role(name) if name else None
        if role is not None:
            require_all(self.principal, role.holds, f"give the role {role.name}")
        if len(rows) == 1:  # of several, those that cannot be changed are listed afterwards
            users.require_change(self.principal, rows[0])
        return RoleChange(rows, role)

    def _ask(self, change: RoleChange, *, is_repeated: bool = False) -> HttpResponse:
        return self.render(
            change=change,
            roles=role_choices(self.principal),
            same=[user for user in change.users if user.role == change.role],
            is_manual=all(user.role_source == RoleSource.MANUAL for user in change.users),
            is_repeated=is_repeated,
            back=self.return_path(self.page_path()),
        )

    def return_path(self, default: str) -> str:
        """Return the page to go back to: never this one."""
        path = super().return_path(default)
        return default if path.startswith(reverse("dashboard:users-role")) else path

    def page_path(self) -> str:
        """Return the list."""
        return reverse("dashboard:users")
