"""The real server refuses to demote and to delete whoever owns clusters, and counts the clusters of service accounts.

No cloud is needed: a row in the server's database is a cluster to it.
"""

import json
import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from accounts.identifiers import user_uid
from tests.e2e.skypilot.conftest import ALICE, Gateway, Ground
from tests.factories import PASSWORD
from tests.http_client import Reply, ask, basic, bearer
from tests.servers import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("skypilot"), pytest.mark.sqlite]

WORKSPACE = "\nworkspaces:\n  default: {}\n  secret:\n    private: true\n    allowed_users: []\n"


@contextmanager
def cluster(ground: Ground, owner: str) -> Iterator[None]:
    """A cluster in a private workspace, which belongs to the caller that the server knows by this name."""
    configuration = ground.server.home / ".sky" / "config.yaml"
    before = configuration.read_text(encoding="utf-8")
    configuration.write_text(before + WORKSPACE, encoding="utf-8")
    columns = {
        "name": "training",
        "launched_at": 1,
        "handle": pickle.dumps(None),
        "last_use": "sky launch",
        "status": "UP",
        "cluster_hash": "c1",
        "user_hash": user_uid(owner),
        "workspace": "secret",
    }
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    with closing(sqlite3.connect(ground.server.home / ".sky" / "state.db")) as database:
        database.execute(f"INSERT INTO clusters ({names}) VALUES ({marks})", list(columns.values()))
        database.commit()
        try:
            yield
        finally:
            database.execute("DELETE FROM clusters")
            database.commit()
            configuration.write_text(before, encoding="utf-8")


def post(ground: Ground, path: str, **body: str) -> Reply:
    headers = [basic(ALICE, PASSWORD), ("Content-Type", "application/json")]
    return ask(ground.gateways["caddy"], path, headers, method="POST", body=json.dumps(body).encode())


def findings(ground: Ground) -> dict[str, str]:
    command = [sys.executable, "manage.py", "doctor", "--json"]
    done = subprocess.run(command, cwd=ROOT, env=ground.skyauth.environment, capture_output=True, text=True, check=False)
    return {found["code"]: json.dumps(found) for found in json.loads(done.stdout)}


def test_an_owner_of_clusters_is_neither_demoted_nor_deleted_and_the_server_says_why(gateway: Gateway) -> None:
    ground, name = gateway.ground, f"owner-by-{gateway.name}@example.com"
    ground.skyauth.console("create_user", name=name, role="admin", password=PASSWORD, sign_in="both")
    assert gateway.ask_as(name).status == 200
    with cluster(ground, name):
        demoted = post(ground, "/users/update", user_id=user_uid(name), role="user")
        deleted = post(ground, "/users/delete", user_id=user_uid(name))
        for refused in (demoted, deleted):
            assert refused.status == 409, refused
            assert "active cluster(s): training" in refused.json["detail"]
        assert ground.skyauth.console("role_of", name=name) == ground.server.users()[name] == "admin"
        assert gateway.ask_as(name).status == 200, "nothing changed"
        assert gateway.ask_as(f"new-by-{gateway.name}-owner@example.com").status == 200, "others are not affected"
    assert post(ground, "/users/update", user_id=user_uid(name), role="user").status == 200
    assert ground.server.users()[name] == "user"
    assert gateway.ask_as(name).status == 200
    assert post(ground, "/users/delete", user_id=user_uid(name)).status == 200
    assert name not in ground.server.users()


def test_a_service_account_with_clusters_is_counted_and_not_deleted(gateway: Gateway) -> None:
    ground = gateway.ground
    made = post(ground, "/users/service-account-tokens", token_name=f"trainer_{gateway.name}", role="user").json
    assert gateway.ask(bearer(made["token"])).status == 200
    [name] = [name for name in ground.server.users() if name.startswith(f"trainer_{gateway.name}@sa-")]
    tokens = gateway.ask(basic(ALICE, PASSWORD), target="/users/service-account-tokens").json
    [row] = [row for row in tokens if row["token_id"] == made["token_id"]]
    with cluster(ground, name):
        assert row["service_account_user_id"] == ground.server.ask("/users/role", ("X-Auth-Request-Email", name)).json["id"]
        refused = post(ground, "/users/service-account-tokens/delete", token_id=made["token_id"])
        assert refused.status == 409, refused
        assert "1 active cluster(s): training" in refused.json["detail"]
        assert gateway.ask(bearer(made["token"])).status == 200
    assert post(ground, "/users/service-account-tokens/delete", token_id=made["token_id"]).status == 200
    assert name not in ground.server.users()
    assert gateway.ask(bearer(made["token"])).status == 401


def test_a_role_lost_without_a_question_is_403_with_the_reason_and_doctor_names_the_user(gateway: Gateway) -> None:
    ground, name = gateway.ground, f"chief-by-{gateway.name}@example.com"
    ground.skyauth.console("ensure_role", name="chief", permissions=["upstream:read", "upstream:write", "upstream:admin"])
    ground.skyauth.console("create_user", name=name, role="chief", sign_in="sso")
    assert gateway.ask_as(name).status == 200
    assert ground.server.users()[name] == "admin"
    with cluster(ground, name):
        ground.skyauth.console("ensure_role", name="chief", permissions=["upstream:read", "upstream:write"])
        denied = gateway.ask_as(name)
        assert (denied.status, denied.json["code"]) == (403, "role-refused")
        assert "1 active cluster(s): training" in denied.json["detail"]
        assert gateway.ask_as(f"new-by-{gateway.name}-chief@example.com").status == 200, "others are not affected"
        assert f"{name} (admin instead of user)" in findings(ground)["skypilot.role-refused"]
