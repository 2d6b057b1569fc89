"""The real server refuses to demote and to delete owners of clusters, and counts the clusters of service accounts.

No cloud is needed: a row in the server's database is a cluster to it.
"""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache as once

import pytest

from accounts.identifiers import user_uid
from tests.e2e.skypilot.conftest import ALICE, Gateway, Ground
from tests.factories import PASSWORD
from tests.http_client import Reply, ask, basic, bearer
from tests.servers import ROOT, wait_until
from tests.sky import need_skypilot

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("skypilot"), pytest.mark.sqlite]

HANDLE = """
import pickle
from sky import clouds, resources
from sky.backends import CloudVmRayResourceHandle
launched = resources.Resources(cloud=clouds.Kubernetes(), region="nowhere", instance_type="2CPU--8GB")
handle = CloudVmRayResourceHandle(
    cluster_name="training", cluster_name_on_cloud="training", cluster_yaml=None, launched_nodes=1, launched_resources=launched
)
print(pickle.dumps(handle).hex())
"""
INSERT = """
INSERT INTO clusters (name, launched_at, handle, last_use, status, cluster_hash, user_hash, workspace)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
WORKSPACE = "\nworkspaces:\n  default: {}\n  secret:\n    private: true\n    allowed_users: []\n"


@once
def handle(home: str) -> bytes:
    """Return what the server stores of a cluster in Kubernetes."""
    variables = {"HOME": home, "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    done = subprocess.run([need_skypilot("python"), "-c", HANDLE], env=variables, capture_output=True, text=True, check=True)
    return bytes.fromhex(done.stdout.split()[-1])


@contextmanager
def cluster(ground: Ground, owner: str) -> Iterator[None]:
    """A cluster in a private workspace, which belongs to the caller that the server knows by this name."""
    configuration = ground.server.home / ".sky" / "config.yaml"
    before = configuration.read_text(encoding="utf-8")
    configuration.write_text(before + WORKSPACE, encoding="utf-8")
    row = ("training", 1, handle(str(ground.server.home)), "sky launch", "UP", "c1", user_uid(owner), "secret")
    with closing(sqlite3.connect(ground.server.home / ".sky" / "state.db")) as database:
        database.execute(INSERT, row)
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
    return {found["code"]: json.dumps(found) for found in json.loads(done.stdout)["findings"]}


def test_an_owner_of_clusters_is_neither_demoted_nor_deleted_and_the_server_says_why(gateway: Gateway) -> None:
    ground, name = gateway.ground, f"owner-by-{gateway.name}@example.com"
    ground.skyauth.console("create_user", name=name, role="admin", password=PASSWORD, sign_in="both")
    wait_until(lambda: gateway.ask_as(name).status == 200, "the role is sent")
    with cluster(ground, name):
        demoted = post(ground, "/users/update", user_id=user_uid(name), role="user")
        deleted = post(ground, "/users/delete", user_id=user_uid(name))
        for refused in (demoted, deleted):
            assert refused.status == 409, refused
            assert "active cluster(s): training" in refused.json["detail"]
        assert ground.skyauth.console("role_of", name=name) == ground.server.users()[name] == "admin"
        wait_until(lambda: gateway.ask_as(name).status == 200, "nothing changed")
        wait_until(lambda: gateway.ask_as(f"new-by-{gateway.name}-owner@example.com").status == 200, "others are not affected")
    assert post(ground, "/users/update", user_id=user_uid(name), role="user").status == 200
    assert ground.server.users()[name] == "user"
    wait_until(lambda: gateway.ask_as(name).status == 200, "the role is sent")
    assert post(ground, "/users/delete", user_id=user_uid(name)).status == 200
    assert name not in ground.server.users()


def test_a_service_account_with_clusters_is_counted_and_not_deleted(gateway: Gateway) -> None:
    ground = gateway.ground
    made = post(ground, "/users/service-account-tokens", token_name=f"trainer_{gateway.name}", role="user").json
    wait_until(lambda: gateway.ask(bearer(made["token"])).status == 200, "the role is sent")
    [name] = [name for name in ground.server.users() if name.startswith(f"trainer_{gateway.name}@sa-")]
    tokens = gateway.ask(basic(ALICE, PASSWORD), target="/users/service-account-tokens").json
    [row] = [row for row in tokens if row["token_id"] == made["token_id"]]
    with cluster(ground, name):
        assert row["service_account_user_id"] == ground.server.ask("/users/role", ("X-Auth-Request-Email", name)).json["id"]
        refused = post(ground, "/users/service-account-tokens/delete", token_id=made["token_id"])
        assert refused.status == 409, refused
        assert "1 active cluster(s): training" in refused.json["detail"]
        wait_until(lambda: gateway.ask(bearer(made["token"])).status == 200, "the role is sent")
    assert post(ground, "/users/service-account-tokens/delete", token_id=made["token_id"]).status == 200
    assert name not in ground.server.users()
    assert gateway.ask(bearer(made["token"])).status == 401


def test_a_role_lost_without_a_question_is_403_with_the_reason_and_doctor_names_the_user(gateway: Gateway) -> None:
    ground, name = gateway.ground, f"chief-by-{gateway.name}@example.com"
    chief = {"name": f"chief-{gateway.name}", "permissions": ["upstream:read", "upstream:write"]}
    ground.skyauth.console("ensure_role", **{**chief, "permissions": [*chief["permissions"], "upstream:admin"]})
    ground.skyauth.console("create_user", name=name, role=chief["name"], sign_in="sso")
    wait_until(lambda: gateway.ask_as(name).status == 200, "the role is sent")
    assert ground.server.users()[name] == "admin"
    with cluster(ground, name):
        ground.skyauth.console("set_permissions", **chief)
        wait_until(lambda: gateway.ask_as(name).status == 403, "the server refuses the role")
        denied = gateway.ask_as(name)
        assert denied.json["code"] == "role-refused"
        assert "1 active cluster(s): training" in denied.json["detail"]
        wait_until(lambda: gateway.ask_as(f"new-by-{gateway.name}-chief@example.com").status == 200, "others are not affected")
        assert f"{name} (admin instead of user)" in findings(ground)["skypilot.role-refused"]
