"""One row of everything that an operation of the API is about, and the body of a request to each operation."""

from typing import Any

import pytest

from accounts.models import DeletedUser, Job, JobKind, ServiceAccount
from audit import record
from rbac.models import Role, Route
from tests.factories import PASSWORD, GroupRoleFactory, UserFactory, make_token
from tests.verify_client import denied

BODIES: dict[str, Any] = {
    "POST /users": {"username": "new@example.com", "role": "viewer"},
    "PATCH /users/{uid}": {"display_name": "M."},
    "POST /users/bulk-role": {"uids": ["{uid}"], "role": "viewer"},
    "POST /users/import": {"csv": "username,role\nnew@example.com,viewer\n"},
    "POST /users/me/password": {"current_password": PASSWORD, "password": "another good passphrase"},
    "PATCH /deleted-users/{gone}": {"blocked": True},
    "POST /service-accounts": {"name": "another"},
    "PATCH /service-accounts/{account}": {"description": "Builds."},
    "POST /service-accounts/{account}/tokens": {"days": 1},
    "POST /service-accounts/{account}/tokens/{key_id}/rotate": {},
    "POST /roles": {"name": "another", "permissions": ["upstream:read"]},
    "PATCH /roles/{name}": {"description": "Reads."},
    "POST /group-roles": {"group": "staff", "role": "viewer"},
    "PATCH /group-roles/{group}": {"priority": 1},
    "POST /routes": {"path": "/x/**", "methods": ["*"], "permission": "upstream:read"},
    "PATCH /routes/{route}": {"note": "Why."},
    "POST /routes/reorder": {"order": []},
    "POST /policy/explain": {"who": "mallory@example.com", "method": "GET", "path": "/"},
}
QUERIES = {"GET /policy/explain": "?who=mallory@example.com&method=GET&path=/"}


@pytest.fixture
def world(read_write: None, pipeline: ServiceAccount) -> dict[str, str]:
    """The rows that the paths name. Mallory is the user that operations change."""
    ops = Role.objects.create(name="ops", permissions=["upstream:read"])
    mallory = UserFactory(username="mallory@example.com", role=Role.objects.get(name="viewer"))
    route = Route.objects.create(position=3, path="/z", methods=["GET"], permission="upstream:read")
    Route.objects.exclude(pk=route.pk).delete()
    entry = record.Entry.objects.create(event="user.created", actor="tests")
    return {
        "uid": mallory.uid,
        "account": pipeline.uid,
        "key_id": make_token(pipeline)[0].key_id,
        "name": ops.name,
        "gone": str(DeletedUser.objects.create(username="gone@example.com", role="viewer").pk),
        "group": str(GroupRoleFactory(group="guests").pk),
        "route": str(route.pk),
        "pack": "read-write",
        "entry": str(entry.pk),
        "job": Job.objects.create(kind=JobKind.USER_IMPORT, actor_kind="user", actor_pk=0, actor_name="mallory@example.com").pk,
        "decision": denied(mallory, "POST"),
    }


def filled(value: Any, world: dict[str, str]) -> Any:
    """Return a body or path with the world's rows in it."""
    if isinstance(value, str):
        for name, text in world.items():
            value = value.replace(f"{{{name}}}", text)
        return value
    if isinstance(value, list):
        return [filled(item, world) for item in value]
    return {name: filled(item, world) for name, item in value.items()} if isinstance(value, dict) else value
