#!/usr/bin/env python
"""Fills an empty installation with users, service accounts and past requests, for screenshots and demonstrations.

    .venv/bin/python scripts/demo_data.py PASSWORD

alice (admin), bob (user) and vera (viewer) sign in with that password. Services create everything, except timestamps and recent
requests.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "skyauth.settings")

USERS: Final = {
    "admin": ("alice", "grace"),
    "user": ("bob", "carol", "dan", "erin", "frank", "heidi"),
    "viewer": ("vera", "ivan", "judy"),
}
WITH_PASSWORD: Final = ("alice", "bob", "vera")
ACCOUNTS: Final = (
    ("nightly-build", "bob", "user", "Builds and tests main every night", 30),
    ("bob-sweeps", "bob", "viewer", "Reads the metrics of parameter sweeps", 5),
    ("deploy-prod", "alice", "admin", "Deploys from the release branch", 90),
    ("legacy-cron", "", "user", "Came with the old server", 0),
)
# The age of their tokens, and the time and address of their last use.
LAST_USED: Final = (
    ("nightly-build", timedelta(days=26), timedelta(minutes=12), "192.0.2.17"),
    ("bob-sweeps", timedelta(days=25), timedelta(hours=5), "192.0.2.40"),
    ("deploy-prod", timedelta(days=40), timedelta(days=2), "198.51.100.9"),
    ("legacy-cron", timedelta(days=200), None, ""),
)
# Recent requests, which the preview of a change evaluates again.
RECENT: Final = (
    ("bob", "POST", "/launch", True),
    ("bob", "GET", "/api/v1/jobs/7/logs", True),
    ("carol", "POST", "/jobs/launch", True),
    ("vera", "GET", "/api/health", True),
    ("vera", "POST", "/status", True),
    ("vera", "POST", "/launch", False),
    ("ivan", "GET", "/workspaces", True),
    ("alice", "POST", "/workspaces/update", True),
)
GROUPS: Final = (("platform-admins", "admin", 10), ("ml-engineers", "user", 50), ("everybody@example.com", "viewer", 100))
DENIED: Final = (("vera", "/launch"), ("ivan", "/down"))


def fill(password: str) -> None:
    from django.utils import timezone

    from accounts.models import ServiceAccount, Token, User
    from accounts.services import groups, service_accounts, tokens, users
    from rbac import denials, policy, services
    from rbac.models import RecentRequest
    from rbac.permissions import Permission
    from rbac.principals import Kind, Method, Principal, system

    actor, now = system("demonstration"), timezone.now()
    by_name = {}
    for role, names in USERS.items():
        for name in names:
            by_name[name] = users.create_user(
                actor=actor,
                username=f"{name}@example.com",
                role=role,
                password=password if name in WITH_PASSWORD else None,
                display_name=name.title(),
            )
    users.set_active(actor=actor, user=by_name["judy"], active=False)
    for name, owner, role, description, days in ACCOUNTS:
        ownership = {"owner": by_name[owner]} if owner else {"unowned": True}
        account = service_accounts.create_service_account(actor=actor, name=name, role=role, description=description, **ownership)
        tokens.issue_token(actor=actor, account=account, days=days, name="ci")
    User.objects.update(created_at=now - timedelta(days=210))
    for name, unseen in (("carol", timedelta(hours=3)), ("dan", timedelta(days=40)), ("grace", timedelta(days=120))):
        User.objects.filter(pk=by_name[name].pk).update(created_at=now - timedelta(days=400), last_seen_at=now - unseen)
    ServiceAccount.objects.update(created_at=now - timedelta(days=205))
    for name, age, used, address in LAST_USED:
        rows = Token.objects.filter(account__name=name)
        rows.update(created_at=now - age, last_used_at=now - used if used else None, last_used_from=address)
    old = Token.objects.get(account__name="nightly-build")
    new = tokens.rotate_token(actor=actor, token=old, grace=7 * 86_400).token
    created = now - timedelta(hours=20)
    Token.objects.filter(pk=new.pk).update(
        created_at=created,
        expires_at=created + timedelta(days=30),
        last_used_at=now - timedelta(minutes=3),
        last_used_from="192.0.2.81",
    )
    services.load_pack(actor=actor, name="skypilot")
    services.create_role(
        actor=actor,
        name="auditor",
        description="Reads the audit log and the reasons of decisions.",
        permissions=["audit:read", "policy:explain", "roles:read", "routes:read", "users:read"],
    )
    for group, role, rank in GROUPS:
        groups.create_group_role(actor=actor, group=group, role=role, priority=rank)
    for number, (name, method, path, allowed) in enumerate(RECENT, 1):
        RecentRequest.objects.create(
            key=str(number),
            caller_kind=Kind.USER,
            caller_uid=by_name[name].uid,
            caller=by_name[name].username,
            method=method,
            host="api.example.com",
            path=path,
            allowed=allowed,
            at=now - timedelta(minutes=4 * number),
        )
    for name, path in DENIED:
        user = by_name[name]
        caller = Principal(Kind.USER, user.uid, user.username, role="viewer", method=Method.PROXY, peer="192.0.2.44", pk=user.pk)
        decision = policy.decide(user.role.holds, Permission.UPSTREAM_WRITE, "#147 * /** -> upstream:write")
        host = "api.example.com"
        denials.record_denial(
            caller,
            f"POST {host}{path}",
            f"{decision.reason}: {decision.message}",
            facts=denials.facts(caller, decision, method="POST", host=host, path=path),
        )


if __name__ == "__main__":
    import django

    django.setup()
    fill(sys.argv[1])
