"""The checks of a request, in SkyPilot's order: caller, permission, client version, method, body; then the operation runs.

Sign-in and roles come first, so that an error reveals nothing to a caller without permission.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

from authn.requests import principal_of
from core.errors import Forbidden
from core.same_origin import require_same_origin
from integrations.skypilot.roles import skypilot_role
from rbac import auth_methods, policy
from rbac.auth_methods import Interface
from rbac.denials import record_denial
from rbac.permissions import Permission
from rbac.principals import Principal
from skypilot import validation, versions
from skypilot.decorators import View, skypilot_view
from skypilot.errors import HTTPException, RoleForbidden, json_response
from skypilot.validation import Fields

AUTHENTICATED: Final[tuple[Permission, ...]] = ()  # any authenticated caller


@dataclass(frozen=True, slots=True)
class Call:
    """An allowed call: the caller, the request and the validated fields of its body."""

    actor: Principal
    request: HttpRequest
    body: Mapping[str, Any] = field(repr=False)  # it can contain a password


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path. One of the permissions in `needs` is enough; empty: any authenticated caller. `fields` is the body.

    `run` returns the JSON value of the 200. A CLI session can read, and can write only with `by_cli`: with a new token or a
    new admin it could extend its own life (promise 37).
    """

    method: str
    path: str
    needs: tuple[Permission, ...]
    run: Callable[[Call], Any]
    fields: Fields | None = None
    by_cli: bool = False

    @property
    def interface(self) -> Interface:
        """What the caller's sign-in method must open."""
        return Interface.SKYPILOT_API if self.method == "GET" or self.by_cli else Interface.SKYPILOT_CHANGES


def views(operations: Iterable[Operation]) -> dict[str, View]:
    """Return the view of each path."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    return {path: _view(methods) for path, methods in by_path.items()}


def _view(methods: Mapping[str, Operation]) -> View:
    @skypilot_view
    def view(request: HttpRequest) -> HttpResponse:
        return record_denials(request, lambda actor: _run(request, actor, methods))

    return view


def other_paths(operation_paths: Iterable[str]) -> View:
    """Return the view of all other paths: 307 for the path of an operation with a slash at the end, else 404.

    A viewer gets 403 for all of them, as from SkyPilot.
    """
    paths = frozenset(f"/{path}" for path in operation_paths)

    @skypilot_view
    def view(request: HttpRequest, **kwargs: Any) -> HttpResponse:  # noqa: ARG001 - Django's signature
        def handler(actor: Principal) -> HttpResponse:
            _forbid_viewer(actor)
            versions.require_supported(versions.client_version(request))
            path, separator, query = request.get_full_path().partition("?")
            if path.endswith("/") and path[:-1].removeprefix("/internal/dashboard") in paths:
                redirect = HttpResponse(status=307)
                del redirect["Content-Type"]
                redirect["Location"] = f"{path[:-1]}{separator}{query}"
                return redirect
            raise HTTPException(404, "Not Found")

        return record_denials(request, handler)

    return view


def record_denials(request: HttpRequest, handler: Callable[[Principal], HttpResponse]) -> HttpResponse:
    """Return the handler's response to the request's principal. A denial is recorded in the audit log."""
    actor = principal_of(request)
    try:
        if auth_methods.is_sent_unasked(actor.method):
            require_same_origin(request)
        return handler(actor)
    except (Forbidden, PermissionDenied, HTTPException) as denial:
        if not isinstance(denial, HTTPException) or denial.status == 403:
            record_denial(actor, f"{request.method} {request.path}", str(denial))
        raise


def _run(request: HttpRequest, actor: Principal, methods: Mapping[str, Operation]) -> HttpResponse:
    operation = methods.get(str(request.method))
    if operation is None:
        _forbid_viewer(actor)
        versions.require_supported(versions.client_version(request))
        raise HTTPException(405, "Method Not Allowed", headers={"Allow": ", ".join(sorted(methods))})
    if operation.needs and not any(policy.decide(actor.permissions, permission) for permission in operation.needs):
        raise RoleForbidden
    if not auth_methods.opens(actor.method, operation.interface):
        raise HTTPException(403, "A CLI session cannot change users or tokens. Use the dashboard.")
    versions.require_supported(versions.client_version(request))
    body = {} if operation.fields is None else validation.read(request, operation.fields)
    return json_response(operation.run(Call(actor, request, body)))


def _forbid_viewer(actor: Principal) -> None:
    """Raise RoleForbidden for a viewer: SkyPilot lists the paths that viewers can call, and rejects all others first."""
    if skypilot_role(actor.permissions) == "viewer":
        raise RoleForbidden
