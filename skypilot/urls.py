"""The paths of the SkyPilot API that SkyAuth serves, each also below the prefix that SkyPilot's dashboard uses."""

from typing import Final

from django.urls import include, path, re_path

from authn.view_access import UrlPatterns, all_belong_to, belongs_to
from rbac.auth_methods import Interface
from skypilot import sign_in, tokens, users, users_csv
from skypilot.errors import unauthenticated
from skypilot.health import health
from skypilot.operations import Operation, other_paths, views

app_name = "skypilot"

OPERATIONS: Final[tuple[Operation, ...]] = (*users.OPERATIONS, *users_csv.OPERATIONS, *tokens.OPERATIONS)
_views = views(OPERATIONS)

_for_browsers = belongs_to(Interface.CLI_LOGIN, sign_in.refuse_page)

_paths: UrlPatterns = [
    path("api/health", health, name="health"),
    path("api/v1/auth/authorize", sign_in.authorize),
    path("api/v1/auth/token", sign_in.redeem),
    path("auth/authorize", _for_browsers(sign_in.AuthorizeView.as_view()), name="authorize"),
    path("token", _for_browsers(sign_in.TokenView.as_view()), name="token"),
    *(path(name, view) for name, view in _views.items()),
    re_path(r"\Ausers(?:/|\Z)", other_paths(_views)),
]

_patterns: UrlPatterns = [
    *_paths,
    path("internal/dashboard/", include((_paths, "dashboard"))),
]
urlpatterns = all_belong_to(Interface.SKYPILOT_API, _patterns, unauthenticated)
