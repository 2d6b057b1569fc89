"""Failed sign-ins in the Django admin: which user names are locked out at which address, and a way to unlock them."""

from copy import copy
from typing import Any

from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest

from adminsite.base import ServiceAdmin
from audit.events import Event
from audit.record import record
from authn import lockout
from rbac.principals import Principal


class FailedSignInList(ChangeList):
    """The list, under the names of `FailedSignInAdmin`."""

    def __init__(self, request: HttpRequest, model: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(request, model, *args, **kwargs)
        self.opts = self.model_admin.opts
        self.title = f"Select {self.opts.verbose_name} to view"


@admin.register(AccessAttempt)
class FailedSignInAdmin(ServiceAdmin):
    """Counted failures, for the admin role only. Deleting a row unlocks that user name at that address."""

    list_display = ("username", "ip_address", "failures_since_start", "attempt_time")
    fields = list_display
    search_fields = ("username", "ip_address")
    date_hierarchy = "attempt_time"

    def __init__(self, model: Any, admin_site: admin.AdminSite) -> None:
        super().__init__(model, admin_site)
        # Names of our own for a library's model. Changed in the model itself, they would need a migration of the library.
        self.opts = copy(self.opts)
        self.opts.verbose_name, self.opts.verbose_name_plural = "failed sign-in", "failed sign-ins"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return FailedSignInList

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: SkyAuth counts the failures."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: a count can only be deleted."""
        return False

    def remove(self, actor: Principal, row: Any) -> None:
        """Delete the count of failures of this user name from this address."""
        lockout.clear_failures(row.username, row.ip_address or "")
        record(Event.SIGN_IN_FAILURES_FORGOTTEN, actor=actor, target=row.username, data={"address": row.ip_address})

    def consequences(self, row: Any) -> list[Any]:
        """Return the user name and the address that are unlocked."""
        return [f"The user name {row.username} is unlocked for sign-in from {row.ip_address or 'an unknown address'}."]
