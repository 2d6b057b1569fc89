"""The user list, and the page that creates a user."""

from typing import Any, Final

from django.contrib import messages
from django.db.models import Count, QuerySet
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse

from accounts import grants
from accounts.filters import UserFilterSet
from accounts.models import User
from accounts.services import users
from accounts.services.sign_in_warnings import warning_about
from dashboard.base import FormPage, Page
from dashboard.forms import CreateUserForm, UserFilter, role_choices
from dashboard.lists import paginate
from rbac.permissions import Permission
from rbac.principals import Principal
from rbac.services import get_role, is_permitted

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


class NewUserPage(FormPage):
    """Creates a user."""

    needs = (Permission.USERS_WRITE,)
    section = "users"
    template = "dashboard/user_new.html"

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, with the roles that can be assigned."""
        return CreateUserForm(data, principal=self.principal)

    def confirmation(self, values: dict[str, Any]) -> str:
        return grants.to_user(self.principal, values["username"], get_role(values["role"]))

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
