"""The order in which a request is judged: who calls, may they, which version, which method, what is in the body, then the work.

It is the order of SkyPilot, where sign-in and roles come before everything else: nobody learns from a refusal what they may
not know.
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
from skypilot.decorators import View, speaks_skypilot
from skypilot.errors import Refused, RoleForbidden, as_json
from skypilot.validation import Fields

ANYBODY: Final[tuple[Permission, ...]] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """One call that may be made: by whom, and what was sent."""

    actor: Principal
    request: HttpRequest
    given: Mapping[str, Any] = field(repr=False)  # may hold a password


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of a path, the permissions of which one is enough (none: whoever is signed in), the body's fields and the work.

    `run` returns the JSON value of the 200. A command line that a person signed in only reads, and writes where `by_cli` says so:
    could it make a token or an admin, it would outlive its own end (promise 37).
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
    @speaks_skypilot
    def view(request: HttpRequest) -> HttpResponse:
        return recorded(request, lambda actor: _answer(request, actor, methods))

    return view


def elsewhere(known: Iterable[str]) -> View:
    """Return the view of all other paths: 307 for a known one with a slash at its end, and else 404; a viewer gets neither."""
    paths = frozenset(f"/{path}" for path in known)

    @speaks_skypilot
    def view(request: HttpRequest, **kwargs: Any) -> HttpResponse:  # noqa: ARG001 - Django's signature
        def answer(actor: Principal) -> HttpResponse:
            _require_more_than_reading(actor)
            versions.require(versions.client_of(request))
            here, mark, query = request.get_full_path().partition("?")
            if here.endswith("/") and here[:-1].removeprefix("/internal/dashboard") in paths:
                moved = HttpResponse(status=307)
                del moved["Content-Type"]
                moved["Location"] = f"{here[:-1]}{mark}{query}"
                return moved
            raise Refused(404, "Not Found")

        return recorded(request, answer)

    return view


def recorded(request: HttpRequest, answer: Callable[[Principal], HttpResponse]) -> HttpResponse:
    """Return the answer to the request's principal. A refusal is recorded."""
    actor = principal_of(request)
    try:
        if auth_methods.is_sent_unasked(actor.method):
            require_same_origin(request)
        return answer(actor)
    except (Forbidden, PermissionDenied, Refused) as refusal:
        if not isinstance(refusal, Refused) or refusal.status == 403:
            record_denial(actor, f"{request.method} {request.path}", str(refusal))
        raise


def _answer(request: HttpRequest, actor: Principal, methods: Mapping[str, Operation]) -> HttpResponse:
    operation = methods.get(str(request.method))
    if operation is None:
        _require_more_than_reading(actor)
        versions.require(versions.client_of(request))
        raise Refused(405, "Method Not Allowed", headers={"Allow": ", ".join(sorted(methods))})
    if operation.needs and not any(policy.decide(actor.permissions, needed) for needed in operation.needs):
        raise RoleForbidden
    if not auth_methods.opens(actor.method, operation.interface):
        raise Refused(403, "A command line that was signed in changes no users and no tokens. Use the dashboard.")
    versions.require(versions.client_of(request))
    given = {} if operation.fields is None else validation.read(request, operation.fields)
    return as_json(operation.run(Call(actor, request, given)))


def _require_more_than_reading(actor: Principal) -> None:
    """Raise RoleForbidden for a viewer: SkyPilot lists what a viewer is allowed to call, and refuses anything else first."""
    if skypilot_role(actor.permissions) == "viewer":
        raise RoleForbidden
