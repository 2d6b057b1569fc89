"""Users: the list, in which roles are changed in place or in bulk, and new ones."""

from typing import Any

from django.db.models import Count, Q, QuerySet
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse

from accounts.models import User
from accounts.services import users
from core.errors import Invalid
from dashboard.base import FormPage, Page
from dashboard.forms import NewUser, UserFilter, role_choices
from dashboard.lists import PAGE_SIZE, paginate
from rbac.permissions import Permission
from rbac.principals import Principal

SORTS = {"name": ("username",), "seen": ("last_seen_at",), "created": ()}  # users are made in the order of their keys


def may_change(principal: Principal, user: User) -> bool:
    """Return whether this person is offered to change a user; the services decide whether it is done."""
    return principal.holds(Permission.USERS_WRITE) and user.role.holds <= principal.permissions


def filtered(asked: QueryDict) -> tuple[QuerySet[User], UserFilter]:
    """Return the users that an address asks for, and the form that says which; none where it asks for what cannot be."""
    form = UserFilter(asked)
    if not form.is_valid():
        return User.objects.none(), form
    rows = User.objects.all()
    given = form.cleaned_data
    if text := given["q"].strip():
        rows = rows.filter(Q(username__contains=text.lower()) | Q(email__contains=text.lower()) | Q(display_name__icontains=text))
    if given["role"]:
        rows = rows.filter(role__name=given["role"])
    if given["state"]:
        rows = rows.filter(is_active=given["state"] == "active")
    if given["sign_in"]:
        rows = rows.filter(sign_in=given["sign_in"])
    return rows, form


def _shown() -> QuerySet[User]:
    """Return users with what a row of the list shows."""
    return User.objects.select_related("role").annotate(accounts_count=Count("service_accounts"))


class Users(Page):
    """The list of users."""

    needs = (Permission.USERS_READ,)
    section = "users"
    template = "dashboard/users.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show a page of it."""
        rows, form = filtered(request.GET)
        found = paginate(rows, request.GET, sorts=SORTS, default="name", shown=_shown())
        for user in found.rows:
            user.changeable = may_change(self.principal, user)  # type: ignore[attr-defined]
        writes = self.principal.holds(Permission.USERS_WRITE)
        return self.render(
            filter=form,
            filtered=any(form.cleaned_data.values()) if form.is_valid() else True,
            page=found,
            writes=writes,
            roles=role_choices(self.principal) if writes else (),
        )


class SetRole(Page):
    """Changes the role of one user, in the list or on the user's own page."""

    needs = (Permission.USERS_WRITE,)
    section = "users"

    def post(self, request: HttpRequest, uid: str) -> HttpResponse:
        """Change it; htmx gets the row as it is now."""
        user = users.get_user(uid)
        before = user.role.name
        user = users.set_role(actor=self.principal, user=user, role=request.POST.get("role", ""))
        done = f"{user.username} is {user.role.name} now, and was {before}."
        if not self.is_partial:
            return self.redirect_to(self.return_path(reverse("dashboard:user", args=[uid])), done)
        row = _shown().get(pk=user.pk)
        row.changeable = may_change(self.principal, row)  # type: ignore[attr-defined]
        return self.render(
            "dashboard/parts/user_row.html", user_row=row, writes=True, roles=role_choices(self.principal), done=done
        )

    def page_path(self) -> str:
        """Return the list."""
        return reverse("dashboard:users")


class BulkRole(Page):
    """Gives the ticked users a role, each on their own, and says of whom it could not be done."""

    needs = (Permission.USERS_WRITE,)
    section = "users"
    template = "dashboard/bulk_role.html"

    def post(self, request: HttpRequest) -> HttpResponse:
        """Do it."""
        uids, role = request.POST.getlist("uid"), request.POST.get("role", "")
        if not uids:
            raise Invalid("Tick the users first who are to get the role.")
        if len(uids) > PAGE_SIZE:
            raise Invalid(f"That is more than a page: at most {PAGE_SIZE} at once.")
        names = dict(User.objects.filter(uid__in=uids).values_list("uid", "username"))
        outcomes = users.bulk_set_role(actor=self.principal, uids=uids, role=role)
        done = [names[outcome.target] for outcome in outcomes if outcome.error is None]
        failed = [(names.get(outcome.target, outcome.target), outcome.error) for outcome in outcomes if outcome.error]
        back = self.return_path(self.page_path())
        if failed:
            return self.render(done=done, failed=failed, role=role, back=back)
        return self.redirect_to(back, f"{len(done)} user{'s have' if len(done) > 1 else ' has'} the role {role} now.")

    def page_path(self) -> str:
        """Return the list."""
        return reverse("dashboard:users")


class New(FormPage):
    """Makes a user."""

    needs = (Permission.USERS_WRITE,)
    section = "users"
    template = "dashboard/user_new.html"

    def make_form(self, data: QueryDict | None = None) -> BaseForm:
        """Return the form, with the roles that may be given."""
        return NewUser(data, principal=self.principal)

    def perform(self, given: dict[str, Any]) -> HttpResponse:
        """Make the user, and show their page."""
        user = users.create_user(
            actor=self.principal,
            username=given["username"],
            display_name=given["display_name"],
            role=given["role"],
            password=given["password"] or None,
        )
        return self.redirect_to(
            reverse("dashboard:user", args=[user.uid]), f"{user.username} was created, with the role {user.role.name}."
        )
