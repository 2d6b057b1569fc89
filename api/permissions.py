"""The permission that each action of the API needs."""

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


class Authenticated(Enum):
    """Needs a credential and no permission: the service decides, or there is nothing to decide."""

    AUTHENTICATED = "authenticated"


AUTHENTICATED: Final = Authenticated.AUTHENTICATED

Need = Permission | tuple[Permission, ...] | Authenticated
"""One permission, a tuple of which any one is enough, or AUTHENTICATED."""


class ActionPermission(BasePermission):
    """Checks `needs` of the view, a table from action to Need. An action that it does not name is denied."""

    message = "Your role does not have the permission that this operation needs."

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Return whether the caller may use this action. Which rows it applies to depends on the queryset."""
        principal: object = request.user
        if not isinstance(principal, Principal):
            return False
        if request.method not in view.allowed_methods:
            return True  # the response is 405, and nothing runs
        needs: dict[str, Need] = getattr(view, "needs", {})
        need = needs.get(getattr(view, "action", None) or "")
        if need is None or isinstance(need, Authenticated):
            return need is AUTHENTICATED
        alternatives = need if isinstance(need, tuple) else (need,)
        decisions = [policy.decide(principal.permissions, permission) for permission in alternatives]
        self.message = decisions[0].message
        return any(decisions)
