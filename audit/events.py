"""The audit events, `subject.what-happened`, sorted."""

from enum import StrEnum


class Event(StrEnum):
    """The kind of an audit entry. The database, the API and exports have the value."""

    AUDIT_PRUNED = "audit.pruned"
    CLI_AUTHORIZED = "cli.authorized"
    CLI_SIGNED_IN = "cli.signed-in"
    GROUP_ROLE_CREATED = "group-role.created"
    GROUP_ROLE_DELETED = "group-role.deleted"
    GROUP_ROLE_UPDATED = "group-role.updated"
    REQUEST_DENIED = "request.denied"
    ROLE_CREATED = "role.created"
    ROLE_DELETED = "role.deleted"
    ROLE_UPDATED = "role.updated"
    ROUTE_CREATED = "route.created"
    ROUTE_DELETED = "route.deleted"
    ROUTE_UPDATED = "route.updated"
    ROUTES_REORDERED = "routes.reordered"
    ROUTES_REPLACED = "routes.replaced"
    SERVICE_ACCOUNT_CREATED = "service-account.created"
    SERVICE_ACCOUNT_DELETED = "service-account.deleted"
    SERVICE_ACCOUNT_UPDATED = "service-account.updated"
    SESSION_ENDED = "session.ended"
    SIGN_IN = "sign-in.succeeded"
    SIGN_IN_FAILURES_FORGOTTEN = "sign-in.failures-forgotten"
    SIGN_IN_GROUPS_IGNORED = "sign-in.groups-ignored"
    SIGN_IN_REFUSED = "sign-in.refused"
    TOKEN_ISSUED = "token.issued"  # noqa: S105 - a name, not a secret
    TOKEN_REVOKED = "token.revoked"  # noqa: S105
    TOKEN_ROTATED = "token.rotated"  # noqa: S105
    USER_BLOCKED = "user.blocked"
    USER_CREATED = "user.created"
    USER_DELETED = "user.deleted"
    USER_PASSWORD_CHANGED = "user.password-changed"  # noqa: S105
    USER_UNBLOCKED = "user.unblocked"
    USER_UPDATED = "user.updated"
