"""The user list with role changes in place and in bulk, and the page that creates a user."""

from typing import Any, Final

from django.contrib import messages
from django.db.models import Count, QuerySet
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse

from accounts.filters import UserFilterSet
from accounts.models import User
from accounts.services import users
from accounts.services.sign_in_warnings import warning_about
from core.errors import Invalid
from dashboard.base import FormPage, Page
from dashboard.forms import CreateUserForm, UserFilter, role_choices
from dashboard.lists import PAGE_SIZE, paginate
from rbac.permissions import Permission
from rbac.principals import Principal
from rbac.services import is_permitted

SORTS: Final = {"name": ("username",), "seen": ("last_seen_at",), "created": ()}  # keys ascend with the time of creation


def can_change(principal: Principal, user: User) -> bool:
    """Return whether pages offer this user to change another one; the services decide again."""
    return is_permitted(users.require_change, principal, user)


def filtered(query: QueryDict) -> tuple[QuerySet[User], UserFilter]:
    """Return the users that match the query parameters, and the filter form; no users where a parameter is invalid."""
    form = UserFilter(query)
    if not form.is_valid():
        return User.objects.none(), form
    return UserFilterSet(form.filter_values(), queryset=User.objects.all()).qs, form


def _for_display() -> QuerySet[User]:
    """Return users with everything that a row of the list shows."""
    return User.objects.select_related("role").annotate(accounts_count=Count("service_accounts"))


class UsersPage(Page):
    """The list of users."""

    needs = (Permission.USERS_READ,)
    section = "users"
    template = "dashboard/users.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Return one page of the list."""
        rows, form = filtered(request.GET)
        page = paginate(rows, request.GET, sorts=SORTS, default="name", display=_for_display())
        for user in page.rows:
            user.changeable = can_change(self.principal, user)  # type: ignore[attr-defined]
        writes = self.principal.holds(Permission.USERS_WRITE)
        return self.render(
            filter=form,
            filtered=any(form.cleaned_data.values()) if form.is_valid() else True,
            page=page,
            writes=writes,
            roles=role_choices(self.principal) if writes else (),
        )


class UserRoleAction(Page):
    """Changes the role of one user, from the list or from the user's page."""

    needs = (Permission.USERS_WRITE,)
    section = "users"

    def post(self, request: HttpRequest, uid: str) -> HttpResponse:
        """Change the role; htmx receives the updated row."""
        user = users.get_user(uid)
        before = user.role.name
        user = users.set_role(actor=self.principal, user=user, role=request.POST.get("role", ""))
        message = f"The role of {user.username} was changed from {before} to {user.role.name}."
        if not self.is_partial:
            return self.redirect_to(self.return_path(reverse("dashboard:user", args=[uid])), message)
        row = _for_display().get(pk=user.pk)
        row.changeable = can_change(self.principal, row)  # type: ignore[attr-defined]
        return self.render(
            "dashboard/parts/user_row.html", user_row=row, writes=True, roles=role_choices(self.principal), message=message
        )

    def page_path(self) -> str:
        """Return the list."""
        return reverse("dashboard:users")


class BulkRoleAction(Page):
    """Gives the selected users a role, each on their own, and lists the users for whom that failed."""

    needs = (Permission.USERS_WRITE,)
    section = "users"
    template = "dashboard/bulk_role.html"

    def post(self, request: HttpRequest) -> HttpResponse:
        """Change the roles."""
        uids, role = request.POST.getlist("uid"), request.POST.get("role", "")
        if not uids:
            raise Invalid("Select at least one user.")
        if len(uids) > PAGE_SIZE:
            raise Invalid(f"Too many users: select at most {PAGE_SIZE} at once.")
        names = dict(User.objects.filter(uid__in=uids).values_list("uid", "username"))
        outcomes = users.bulk_set_role(actor=self.principal, uids=uids, role=role)
        changed = [names[outcome.target] for outcome in outcomes if outcome.error is None]
        failed = [(names.get(outcome.target, outcome.target), outcome.error) for outcome in outcomes if outcome.error]
        back = self.return_path(self.page_path())
        if failed:
            return self.render(changed=changed, failed=failed, role=role, back=back)
        users_have = "1 user now has" if len(changed) == 1 else f"{len(changed)} users now have"
        return self.redirect_to(back, f"{users_have} the role {role}.")

    def page_path(self) -> str:
        """Return the list."""
        return reverse("dashboard:users")


class NewUserPage(FormPage):
    """Creates a user."""

    needs = (Permission.USERS_WRITE,)
    section = "users"
    template = "dashboard/user_new.html"

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, with the roles that can be assigned."""
        return CreateUserForm(data, principal=self.principal)

    def perform(self, values: dict[str, Any]) -> HttpResponse:
        """Create the user, and redirect to their page."""
        user = users.create_user(
            actor=self.principal,
            username=values["username"],
            display_name=values["display_name"],
            role=values["role"],
            password=values["password"] or None,
        )
        if warning := warning_about(user):
            messages.warning(self.request, warning)
        return self.redirect_to(
            reverse("dashboard:user", args=[user.uid]), f"The user {user.username} was created with the role {user.role.name}."
        )
