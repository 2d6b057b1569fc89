"""Users, service accounts, tokens, group roles and jobs as rows. `accounts.services` is their only writer."""

from accounts.models.jobs import Job, JobKind, JobState
from accounts.models.policy import PolicyChange, PolicyRevision, SyncedRole
from accounts.models.service_accounts import ServiceAccount, Token, token_state
from accounts.models.sessions import CliAuthorization, CliLoginRequest, Session, SessionKind
from accounts.models.users import DeletedUser, FirstAdmin, GroupRole, RoleSource, SignIn, User, UserManager

__all__ = [
    "CliAuthorization",
    "CliLoginRequest",
    "DeletedUser",
    "FirstAdmin",
    "GroupRole",
    "Job",
    "JobKind",
    "JobState",
    "PolicyChange",
    "PolicyRevision",
    "RoleSource",
    "ServiceAccount",
    "Session",
    "SessionKind",
    "SignIn",
    "SyncedRole",
    "Token",
    "User",
    "UserManager",
    "token_state",
]
