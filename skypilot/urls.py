"""The paths of the SkyPilot API server that SkyAuth answers, each also below the prefix that SkyPilot's dashboard calls."""

from typing import Final

from django.urls import URLPattern, URLResolver, include, path, re_path

from skypilot import sign_in, tokens, users, users_csv
from skypilot.health import health
from skypilot.operations import Operation, elsewhere, views

app_name = "skypilot"

OPERATIONS: Final[tuple[Operation, ...]] = (*users.OPERATIONS, *users_csv.OPERATIONS, *tokens.OPERATIONS)
_views = views(OPERATIONS)

_paths: list[URLPattern | URLResolver] = [
    path("api/health", health, name="health"),
    path("api/v1/auth/authorize", sign_in.authorize),
    path("api/v1/auth/token", sign_in.collect),
    path("auth/authorize", sign_in.Authorize.as_view(), name="authorize"),
    path("token", sign_in.Token.as_view(), name="token"),
    *(path(name, view) for name, view in _views.items()),
    re_path(r"\Ausers(?:/|\Z)", elsewhere(_views)),
]

urlpatterns: list[URLPattern | URLResolver] = [
    *_paths,
    path("internal/dashboard/", include((_paths, "dashboard"))),
]
