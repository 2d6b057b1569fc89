"""The page with the names of deleted users, and the action that blocks or unblocks one of them."""

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts.filters import DeletedUserFilterSet
from accounts.models import DeletedUser
from accounts.services import deleted_users
from core.errors import NotFound
from dashboard.base import Page
from dashboard.forms import DeletedUserFilter
from dashboard.lists import paginate
from rbac.permissions import Permission

SORTS = {"name": ("username",), "deleted": ("deleted_at", "username")}


class DeletedUsersPage(Page):
    """The deleted users who can return through single sign-on."""

    needs = (Permission.USERS_READ,)
    section = "users"
    template = "dashboard/deleted_users.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Return a page of the list."""
        form = DeletedUserFilter(request.GET, auto_id="filter_%s")
        text = form.cleaned_data["q"] if form.is_valid() else ""
        rows = DeletedUserFilterSet({"search": text}, queryset=DeletedUser.objects.all()).qs
        page = paginate(rows, request.GET, sorts=SORTS, default="name")
        writes = self.principal.holds(Permission.USERS_WRITE)
        return self.render(filter=form, filtered=bool(text), page=page, writes=writes)


class BlockAction(Page):
    """Blocks the name of a deleted user, or unblocks it."""

    needs = (Permission.USERS_WRITE,)
    section = "users"
    http_method_names = ["post", "options"]

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Do what the button says."""
        row = DeletedUser.objects.filter(pk=pk).first() if pk < 10**18 else None
        if row is None:
            raise NotFound("There is no such deleted user. Single sign-on or an admin may have created the user again.")
        blocked = request.POST.get("blocked") == "true"
        deleted_users.set_blocked(actor=self.principal, username=row.username, blocked=blocked)
        what = "is blocked" if blocked else "is not blocked any more"
        return self.redirect_to(reverse("dashboard:deleted-users"), f"The name {row.username} {what}.")

    def page_path(self) -> str:
        """Return the list."""
        return reverse("dashboard:deleted-users")
