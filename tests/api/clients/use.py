"""Uses the Python client of openapi-generator against a running SkyAuth, and prints what each step returned as JSON."""

import json
import os
import sys
import time
from typing import Any

import skyauth_client as sky

api = sky.ApiClient(sky.Configuration(host=os.environ["SKYAUTH_URL"], access_token=os.environ["SKYAUTH_TOKEN"]))
users, accounts, routes = sky.UsersApi(api), sky.ServiceAccountsApi(api), sky.RoutesApi(api)
steps: dict[str, Any] = {}

carol = users.users_create(sky.UserCreateRequest(username="carol@example.com", role="viewer"))
steps["created"] = carol.username
steps["listed"] = [row.username for row in users.users_list(search="carol", active=True, ordering="-username").results]
steps["read"] = users.users_retrieve(carol.uid).role
changes = sky.PatchedUserUpdateRequest(active=False, display_name="Carol")
changed = users.users_partial_update(carol.uid, patched_user_update_request=changes)
try:
    users.users_partial_update(carol.uid, if_match='"0"', patched_user_update_request=changes)
except sky.ApiException as error:
    steps["stale"] = error.status
steps["updated"] = [changed.active, changed.display_name, changed.role]
steps["listed disabled"] = [row.username for row in users.users_list(active=False).results]
# What was read is sent back as a whole, with one change.
whole = {**changed.to_dict(), "active": True}
body = json.dumps(whole, default=lambda value: value.isoformat())
headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['SKYAUTH_TOKEN']}"}
sent = api.rest_client.request("PATCH", f"{api.configuration.host}/api/v1/users/{carol.uid}", headers, json.loads(body))
steps["sent back"] = sent.status

csv = sky.UserImportRequest(csv="username,role\ndora@example.com,viewer\n")
steps["import tried"] = [(tried := users.users_import_create(csv, dry_run=True)).applied, tried.created]
steps["imported"] = users.users_import_create(csv).created
# A key makes it a job; the second call is a retry.
again = sky.UserImportRequest(csv="username,role\ndora@example.com,viewer\nerin@example.com,viewer\n")
started = [users.users_import_create(again, update=True, idempotency_key="erin-python").id for _ in range(2)]
while (job := sky.JobsApi(api).jobs_retrieve(started[1])).state in ("waiting", "running"):
    time.sleep(0.1)
steps["imported by a job"] = [started[0] == started[1], job.state, job.result.created]
steps["exported"] = [line.split(",")[0] for line in users.users_export_retrieve().splitlines()]

robot = accounts.service_accounts_create(sky.ServiceAccountCreateRequest(name="sweeper", role="viewer"))
token = accounts.service_accounts_tokens_create(robot.uid, sky.TokenCreateRequest(days=1, name="nightly"))
rotated = accounts.service_accounts_tokens_rotate_create(robot.uid, token.key_id, sky.TokenRotateRequest(grace=60))
steps["rotated"] = rotated.token != token.token and rotated.token.startswith("sky_")
steps["revoked"] = accounts.service_accounts_tokens_revoke_create(robot.uid, rotated.key_id).state
steps["unowned"] = [row.name for row in accounts.service_accounts_list(unowned=True).results]

route = routes.routes_create(sky.RouteCreateRequest(path="/x/**", methods=["GET"], permission="upstream:read"))
why = sky.PatchedRouteUpdateRequest(note="Why.")
note = routes.routes_partial_update(id=route.id, if_match="*", patched_route_update_request=why)
steps["route updated"] = note.note
steps["route deleted"] = routes.routes_destroy_with_http_info(id=route.id, if_match=f'"{note.version}"').status_code
steps["explained"] = sky.PolicyApi(api).policy_explain(method="GET", path="/x", who="dora@example.com").principal.name

steps["account deleted"] = accounts.service_accounts_destroy_with_http_info(robot.uid).status_code
steps["user deleted"] = users.users_destroy_with_http_info(carol.uid).status_code
try:
    users.users_retrieve(carol.uid)
except sky.ApiException as error:
    steps["missing"] = [error.status, json.loads(error.body)["code"]]
for name in ("dora", "erin"):
    users.users_destroy(next(row.uid for row in users.users_list(search=name).results))
sys.stdout.write(json.dumps(steps))
