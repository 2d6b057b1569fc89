"""Failed sign-ins in the Django admin: who must wait, and letting somebody try again."""

from typing import Any

from axes.models import AccessAttempt
from django.contrib import admin
from django.http import HttpRequest

from adminsite.base import ServiceAdmin
from audit.events import Event
from audit.record import record
from authn import lockout
from rbac.principals import Principal


@admin.register(AccessAttempt)
class FailureAdmin(ServiceAdmin):
    """Counted failures, for the admin role alone. Deleting a row lets that name try again from that address."""

    list_display = ("username", "ip_address", "failures_since_start", "attempt_time")
    fields = list_display
    search_fields = ("username", "ip_address")
    date_hierarchy = "attempt_time"

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: failures are counted, not typed."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: a count is forgotten or it stays."""
        return False

    def remove(self, actor: Principal, row: Any) -> None:
        """Forget the failures of this name from this address."""
        lockout.forgive(row.username, row.ip_address or "")
        record(Event.SIGN_IN_FAILURES_FORGOTTEN, actor=actor, target=row.username, data={"address": row.ip_address})

    def consequences(self, row: Any) -> list[Any]:
        """Return what follows."""
        return [f"{row.username} may try again from {row.ip_address or 'an unknown address'}."]
