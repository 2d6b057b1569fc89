"""Every path of the API, version 1. Only the index path ends with a slash."""

from typing import Any

from django.urls import path
from rest_framework.routers import SimpleRouter

from api.audit_events import AuditEventViewSet
from api.deleted_users import DeletedUserViewSet
from api.docs import OpenApiJson, OpenApiYaml, SwaggerUi
from api.errors import refuse
from api.jobs import JobViewSet
from api.policy import DecisionViewSet, ExplainView, PackViewSet
from api.roles import GroupRoleViewSet, RoleViewSet
from api.routes import RouteViewSet
from api.service_accounts import ServiceAccountViewSet, TokenViewSet
from api.users import UserViewSet
from api.whoami import IndexView, PermissionViewSet, WhoamiView
from authn.view_access import UrlPatterns, all_belong_to
from rbac.auth_methods import Interface

app_name = "api"

_RESOURCES: tuple[tuple[str, Any, str], ...] = (
    ("users", UserViewSet, "user"),
    ("deleted-users", DeletedUserViewSet, "deleted-user"),
    ("service-accounts", ServiceAccountViewSet, "service-account"),
    (r"service-accounts/(?P<account>[^/]+)/tokens", TokenViewSet, "token"),
    ("roles", RoleViewSet, "role"),
    ("group-roles", GroupRoleViewSet, "group-role"),
    ("routes", RouteViewSet, "route"),
    ("policy/decisions", DecisionViewSet, "decision"),
    ("policy/packs", PackViewSet, "pack"),
    ("jobs", JobViewSet, "job"),
    ("audit-events", AuditEventViewSet, "audit-event"),
    ("permissions", PermissionViewSet, "permission"),
)

router = SimpleRouter(trailing_slash=False)
for _prefix, _view, _name in _RESOURCES:
    router.register(_prefix, _view, basename=_name)

_patterns: UrlPatterns = [
    path("", IndexView.as_view({"get": "show"}), name="index"),
    path("whoami", WhoamiView.as_view({"get": "show"}), name="whoami"),
    path("policy/explain", ExplainView.as_view({"get": "explain", "post": "explain_by_post"}), name="explain"),
    *router.urls,
    path("openapi.json", OpenApiJson.as_view(), name="openapi-json"),
    path("openapi.yaml", OpenApiYaml.as_view(), name="openapi-yaml"),
    path("docs", SwaggerUi.as_view(), name="docs"),
]
urlpatterns = all_belong_to(Interface.REST_API, _patterns, refuse)
