"""Which permission an action needs. What a table does not name is denied."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from rest_framework.permissions import BasePermission

from rbac import policy
from rbac.permissions import Permission
from rbac.principals import Principal

if TYPE_CHECKING:  # rest_framework.views imports this module
    from rest_framework.request import Request
    from rest_framework.views import APIView


class SignedIn(Enum):
    """Asks for nothing but a credential: the service behind the action decides, or there is nothing to decide."""

    ANYBODY = "anybody who is signed in"


ANYBODY: Final = SignedIn.ANYBODY

Need = Permission | tuple[Permission, ...] | SignedIn
"""One permission, several of which one is enough, or ANYBODY."""


class Needs(BasePermission):
    """Asks `needs`, the view's table from action to Need."""

    message = "Your role does not hold the permission that this needs."

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Return whether the caller may do this at all; which rows they may do it to is the queryset's to say."""
        principal: object = request.user
        if not isinstance(principal, Principal):
            return False
        if request.method not in view.allowed_methods:
            return True  # 405 is the answer, and nothing runs
        needs: dict[str, Need] = getattr(view, "needs", {})
        need = needs.get(getattr(view, "action", None) or "")
        if need is None or isinstance(need, SignedIn):
            return need is ANYBODY
        wanted = need if isinstance(need, tuple) else (need,)
        decisions = [policy.decide(principal.permissions, permission) for permission in wanted]
        self.message = decisions[0].message
        return any(decisions)
