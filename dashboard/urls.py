"""The URLs of the dashboard."""

from django.urls import path, register_converter
from django.urls.converters import StringConverter
from django.views.generic import RedirectView

from authn.view_access import UrlPatterns, all_belong_to, belongs_to
from dashboard import (
    access,
    audit,
    deleted_users,
    groups,
    routes,
    service_account_detail,
    service_accounts,
    sessions,
    try_request,
    user_detail,
    user_files,
    user_roles,
    users,
)
from dashboard.base import refuse
from dashboard.home import HomePage, OwnPasswordPage
from dashboard.sign_in import SignInPage, SignOutView
from rbac.auth_methods import Interface

app_name = "dashboard"


class UserId(StringConverter):
    """A user's id, from `accounts.identifiers.user_uid`."""

    regex = "[0-9a-f]{1,16}"


class AccountId(StringConverter):
    """A service account's id, from `accounts.identifiers.account_uid`."""

    regex = "sa-[0-9a-f]{16}"


class KeyId(StringConverter):
    """A token's key id, from `accounts.token_format.mint`. The id of a decision has the same form."""

    regex = "[0-9A-Za-z]{1,12}"


class JobId(StringConverter):
    """The id of a job."""

    regex = "[0-9a-f]{16}"


class FileKind(StringConverter):
    """The format of an export."""

    regex = "csv|json"


register_converter(UserId, "user")
register_converter(AccountId, "account")
register_converter(KeyId, "key")
register_converter(JobId, "job")
register_converter(FileKind, "file")

_public = belongs_to(Interface.PUBLIC)

_patterns: UrlPatterns = [
    path("", _public(RedirectView.as_view(pattern_name="dashboard:home"))),
    path("sign-in", _public(SignInPage.as_view()), name="sign-in"),
    path("sign-out", _public(SignOutView.as_view()), name="sign-out"),
    path("skyauth", _public(RedirectView.as_view(pattern_name="dashboard:home"))),
    path("skyauth/", HomePage.as_view(), name="home"),
    path("skyauth/password", OwnPasswordPage.as_view(), name="own-password"),
    path("skyauth/users", users.UsersPage.as_view(), name="users"),
    path("skyauth/users/new", users.NewUserPage.as_view(), name="user-new"),
    path("skyauth/users/import", user_files.ImportUsersPage.as_view(), name="users-import"),
    path("skyauth/users/import/<job:job>", user_files.ImportJobPage.as_view(), name="users-import-job"),
    path("skyauth/users/export", user_files.UserExport.as_view(), name="users-export"),
    path("skyauth/users/deleted", deleted_users.DeletedUsersPage.as_view(), name="deleted-users"),
    path("skyauth/users/deleted/<int:pk>", deleted_users.BlockAction.as_view(), name="deleted-user"),
    path("skyauth/users/role", user_roles.ChangeRolePage.as_view(), name="users-role"),
    path("skyauth/users/<user:uid>", user_detail.UserPage.as_view(), name="user"),
    path("skyauth/users/<user:uid>/profile", user_detail.UserProfileAction.as_view(), name="user-profile"),
    path("skyauth/users/<user:uid>/password", user_detail.UserPasswordAction.as_view(), name="user-password"),
    path("skyauth/users/<user:uid>/enable", user_detail.UserEnableAction.as_view(), name="user-enable"),
    path("skyauth/users/<user:uid>/disable", user_detail.DisableUserPage.as_view(), name="user-disable"),
    path("skyauth/users/<user:uid>/delete", user_detail.DeleteUserPage.as_view(), name="user-delete"),
    path("skyauth/service-accounts", service_accounts.ServiceAccountsPage.as_view(), name="service-accounts"),
    path("skyauth/service-accounts/new", service_accounts.NewServiceAccountPage.as_view(), name="service-account-new"),
    path("skyauth/service-accounts/timeline", service_accounts.TokenExpiryPage.as_view(), name="service-accounts-timeline"),
    path(
        "skyauth/service-accounts/<account:account>", service_account_detail.ServiceAccountPage.as_view(), name="service-account"
    ),
    path(
        "skyauth/service-accounts/<account:account>/change",
        service_account_detail.ServiceAccountChangeAction.as_view(),
        name="service-account-change",
    ),
    path(
        "skyauth/service-accounts/<account:account>/enable",
        service_account_detail.ServiceAccountEnableAction.as_view(),
        name="service-account-enable",
    ),
    path(
        "skyauth/service-accounts/<account:account>/disable",
        service_account_detail.DisableServiceAccountPage.as_view(),
        name="service-account-disable",
    ),
    path(
        "skyauth/service-accounts/<account:account>/delete",
        service_account_detail.DeleteServiceAccountPage.as_view(),
        name="service-account-delete",
    ),
    path("skyauth/service-accounts/<account:account>/token", service_account_detail.NewTokenPage.as_view(), name="token-new"),
    path("skyauth/tokens/<key:key>/rotate", service_account_detail.RotateTokenPage.as_view(), name="token-rotate"),
    path("skyauth/tokens/<key:key>/revoke", service_account_detail.RevokeTokenPage.as_view(), name="token-revoke"),
    path("skyauth/sessions", sessions.SessionsPage.as_view(), name="sessions"),
    path("skyauth/sessions/end", sessions.EndSessionAction.as_view(), name="session-end"),
    path("skyauth/sessions/end-all", sessions.EndSessionsAction.as_view(), name="sessions-end"),
    path("skyauth/audit", audit.AuditPage.as_view(), name="audit"),
    path("skyauth/audit.<file:kind>", audit.AuditExport.as_view(), name="audit-export"),
    path("skyauth/audit/decisions/<key:reference>", audit.DecisionPage.as_view(), name="decision"),
    path("skyauth/access", access.RolesPage.as_view(), name="access"),
    path("skyauth/access/try", try_request.TryRequestPage.as_view(), name="try"),
    path("skyauth/access/new-role", access.NewRolePage.as_view(), name="role-new"),
    path("skyauth/access/roles/<slug:name>", access.RolePage.as_view(), name="role"),
    path("skyauth/access/roles/<slug:name>/delete", access.DeleteRolePage.as_view(), name="role-delete"),
    path("skyauth/access/routes", routes.RoutesPage.as_view(), name="routes"),
    path("skyauth/access/routes/new", routes.NewRoutePage.as_view(), name="route-new"),
    path("skyauth/access/routes/move", routes.MoveRoutePage.as_view(), name="route-move"),
    path("skyauth/access/routes/<int:pk>", routes.RoutePage.as_view(), name="route"),
    path("skyauth/access/routes/<int:pk>/delete", routes.DeleteRoutePage.as_view(), name="route-delete"),
    path("skyauth/access/packs", routes.PacksPage.as_view(), name="packs"),
    path("skyauth/access/packs/<slug:name>", routes.PackPage.as_view(), name="pack"),
    path("skyauth/access/groups", groups.GroupsPage.as_view(), name="groups"),
    path("skyauth/access/groups/new", groups.NewGroupPage.as_view(), name="group-new"),
    path("skyauth/access/groups/<int:pk>", groups.GroupPage.as_view(), name="group"),
    path("skyauth/access/groups/<int:pk>/delete", groups.DeleteGroupPage.as_view(), name="group-delete"),
]
urlpatterns = all_belong_to(Interface.DASHBOARD, _patterns, refuse)
