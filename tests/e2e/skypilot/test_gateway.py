"""An unmodified SkyPilot server behind each gateway: it hears who calls from SkyAuth alone, and nobody reaches it unnamed.

The server takes a request without an identity for an unrestricted administrator's. So what counts here is what reached it.
"""

import json
import socket
import subprocess
import sys
from itertools import product
from uuid import uuid4

import pytest

from tests.e2e.skypilot.conftest import ALICE, BOB, VERA, Gateway, Ground, only_as
from tests.http_client import HOST, Reply, ask, basic, bearer, encode
from tests.servers import ROOT, wait_until
from tests.sky import AUTH_PROXY

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("skypilot"), pytest.mark.sqlite]

EVIL = ALICE  # the administrator: nobody here may become her
OWN_HEADERS = ("Email", "User", "Groups", "Role", "Method", "Jwt", "Shared")
SPELLINGS = [
    "".join(a + b for a, b in zip(("X", "Auth", "Request", "Email"), (*s, ""), strict=True)) for s in product("-_.", repeat=3)
]
EXPORTS = (
    "/users/export",
    "/internal/dashboard/users/export",
    "/users/../users/export",
    "/users/me/workspace/../../export",
    "/internal/dashboard/../users/export",
    "/internal/dashboard/internal/dashboard/users/export",
    "//users/export",
    "/users//export",
    "/users%2fexport",
    "/%75sers/export",
    "/%2575sers/export",
    "/users/./export",
    "/users/export/",
    "/users/export;",
    "/users;/export",
    "/users/export%00",
    "/users/export%0a",
    "/USERS/EXPORT",
    "/Users/export",
    "/token/../users/export",
    "/api/health/../../users/export",
    "/sign-in/../users/export",
    "/static/..%2f..%2fusers/export",
    "/static/../users/export",
    "/users/me/workspace%2f..%2f..%2fexport",
    "/users/me/workspace?/../../export",
    "/users\\export",
    "http://elsewhere.example.com/users/export",
    f"http://{HOST}/users/export",
)


def exported(reply: Reply) -> bool:
    """Return whether an answer is the list of all users with their passwords' hashes."""
    return reply.status == 200 and b"csv_content" in reply.body


def test_what_is_at_stake_the_server_itself_exports_all_users_to_whoever_comes_unnamed(ground: Ground) -> None:
    """Were the server reachable beside the gateways, this is what everybody there could do: bind it to a private network."""
    assert exported(ground.server.ask("/users/export"))
    assert ground.server.ask("/users/role").json["role"] == "admin"


def test_each_caller_arrives_under_their_own_name_and_nothing_else_of_theirs_does(gateway: Gateway, pipeline: str) -> None:
    cookies = "skyauth=abc; theirs=1; __Host-skyauth=def; skyauth-csrf=ghi"
    told = [bearer(pipeline), ("Cookie", cookies), ("X-Skypilot-Auth-Mode", "token"), ("X-SkyPilot-API-Version", "62")]
    [arrived] = gateway.arriving(told)
    uid = arrived.all("X-Auth-Request-User")[0]
    assert only_as(f"pipeline@{uid}", [arrived])
    assert arrived.all("X-Forwarded-For") == [HOST]
    assert arrived.all("X-Skypilot-Auth-Mode") == []
    assert arrived.all("X-SkyPilot-API-Version") == ["62"]
    assert arrived.all("Cookie") == ["theirs=1"]
    assert gateway.ask(bearer(pipeline)).status == 200, "the server knows who it is: it has a workspace"
    assert gateway.ground.server.users()[f"pipeline@{uid}"] == "user"


def test_the_role_is_told_before_the_first_request_and_again_when_it_changed(gateway: Gateway) -> None:
    ground, name = gateway.ground, f"new-by-{gateway.name}@example.com"
    assert name not in ground.server.users()
    with ground.serving.listening_in() as seen, ground.private.listening_in() as private:
        assert gateway.ask_as(name).status == 200
        assert bytes(private).index(b"POST /users/update")
        assert only_as(name, [])
        assert seen
    assert ground.server.users()[name] == "viewer", "the server itself makes everybody an administrator"
    for role in ("admin", "user", "viewer"):
        ground.skyauth.console("set_role", name=name, role=role)
        assert gateway.ask_as(name).status == 200
        assert ground.server.users()[name] == role


def test_while_a_role_cannot_be_told_nobody_new_is_let_through_and_then_it_goes_on_by_itself(
    gateway: Gateway, pipeline: str
) -> None:
    ground, name = gateway.ground, f"late-by-{gateway.name}@example.com"
    assert gateway.ask(bearer(pipeline)).status == 200
    ground.private.close()
    try:
        with ground.serving.listening_in() as seen:
            refused = gateway.ask_as(name)
            assert not seen
        assert refused.status == 503
        assert gateway.ask(bearer(pipeline)).status == 200, "who was told of goes on"
    finally:
        ground.private.open()
    wait_until(lambda: gateway.ask_as(name).status == 200, "the server can be told again")
    assert ground.server.users()[name] == "viewer"


HANDSHAKE: list[tuple[str, str | bytes]] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]
ANONYMOUS: dict[str, list[tuple[str, str | bytes]]] = {
    "nothing": [],
    "the identity": [("X-Auth-Request-Email", EVIL)],
    "the identity in all spellings": [(name, EVIL) for name in SPELLINGS],
    "the identity in all spellings but its own": [(name, EVIL) for name in SPELLINGS if name != "X-Auth-Request-Email"],
    "the identity twice": [("X-Auth-Request-Email", EVIL), ("x-auth-request-email", EVIL)],
    "the identity, empty": [("X-Auth-Request-Email", "")],
    "the identity, hop by hop": [("X-Auth-Request-Email", EVIL), ("Connection", "close, X-Auth-Request-Email")],
    "an identity of all names": [(f"X-Auth-Request-{name}", EVIL) for name in OWN_HEADERS],
    "the sign of the shared password": [("X-Auth-Request-Shared", "true"), ("X-Auth-Request-Method", "shared")],
    "other proxies' words": [(name, EVIL) for name in ("X-Forwarded-User", "X-Forwarded-Email", "Remote-User", "X-Remote-User")],
    "the server's own bearer, hop by hop": [("Authorization", "Bearer sky_eyJx"), ("Connection", "Authorization")],
    "the server's own bearer": [("Authorization", "Bearer sky_eyJx")],
    "a bearer of somebody's": [("Authorization", "Bearer eyJx")],
    "no bearer where one is demanded": [("X-Skypilot-Auth-Mode", "token")],
    "from within": [("X-Forwarded-For", "127.0.0.1"), ("X-Real-IP", "127.0.0.1"), ("Forwarded", "for=127.0.0.1")],
    "as another method": [("X-Forwarded-Method", "OPTIONS"), ("X-HTTP-Method-Override", "OPTIONS")],
    "as another path": [("X-Forwarded-Uri", "/api/health"), ("X-Original-URI", "/api/health"), ("X-Rewrite-URL", "/api/health")],
    "as h2c": [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQAAP__")],
    "as a websocket": HANDSHAKE,
}  # fmt: skip


@pytest.mark.parametrize("how", ANONYMOUS)
def test_nobody_reaches_the_server_without_a_credential(gateway: Gateway, how: str) -> None:
    for target in ("/users/me/workspace", "/internal/dashboard/workspaces/config", "/kubernetes-pod-ssh-proxy?cluster_name=x"):
        assert gateway.arriving(ANONYMOUS[how], target) == []
        assert ask(gateway.port, target, ANONYMOUS[how]).status == 401


@pytest.mark.parametrize("how", ANONYMOUS)
def test_nobody_becomes_another_with_a_credential_of_their_own(gateway: Gateway, reader: str, how: str) -> None:
    named = gateway.arriving([bearer(reader)])[0].all("X-Auth-Request-Email")
    told = [line for line in ANONYMOUS[how] if line[0] != "Authorization"]
    arrived = gateway.arriving([*told, bearer(reader), *told])
    assert only_as(named[0], arrived)
    if len(told) == len(ANONYMOUS[how]) and "Upgrade" not in dict(told):
        assert gateway.ask(*told, bearer(reader), target="/workspaces/config").status in {401, 403}


@pytest.mark.parametrize(
    "name", [f"X-Auth-Request-{name}" for name in OWN_HEADERS] + ["Authorization", "Cookie", "X-Forwarded-For"]
)
@pytest.mark.parametrize("connection", ["close, {}", "{}", "keep-alive, {}", "{0}, {0}", "upgrade, {}"])
def test_no_header_can_be_made_to_disappear_hop_by_hop(gateway: Gateway, reader: str, name: str, connection: str) -> None:
    """The hole of `forward_auth` with `copy_headers`: the identity was dropped on the way, and the caller an administrator."""
    named = gateway.arriving([bearer(reader)])[0].all("X-Auth-Request-Email")
    arrived = gateway.arriving([bearer(reader), ("Connection", connection.format(name))])
    assert only_as(named[0], arrived)
    assert gateway.arriving([("Connection", connection.format(name))]) == []


@pytest.mark.parametrize("target", EXPORTS)
def test_no_spelling_of_a_path_exports_the_users_to_anybody_but_an_administrator(
    gateway: Gateway, pipeline: str, target: str
) -> None:
    named = gateway.arriving([bearer(pipeline)])[0].all("X-Auth-Request-Email")
    with gateway.ground.serving.listening_in() as seen:
        assert not exported(gateway.ask(target=target))
        assert not seen
    assert not exported(gateway.ask(bearer(pipeline), target=target))
    assert only_as(named[0], gateway.arriving([bearer(pipeline)], target))


def test_a_token_that_the_server_issued_itself_opens_nothing(gateway: Gateway) -> None:
    body = {"token_name": f"own_{gateway.name}"}
    issued = gateway.ground.server.ask("/users/service-account-tokens", ("X-Auth-Request-Email", ALICE), body=body).json["token"]
    assert issued.startswith("sky_ey")
    for connection in ("close", "Authorization", "close, Authorization"):
        told = [bearer(issued), ("Connection", connection)]
        assert gateway.ask(*told).status == 401
        assert gateway.ask(*told, target="/api/health").status in {200, 401}
        assert gateway.arriving(told) == []
        assert gateway.arriving(told, "/users/export") == []


ANSWERS = {
    "no identity": b"",
    "an empty identity": b"X-Auth-Request-Email: \r\n",
    "blanks": b"X-Auth-Request-Email:    \r\nX-Auth-Request-Method: proxy\r\n",
    "an odd identity": b"X-Auth-Request-Email: a b\r\nX-Auth-Request-Method: proxy\r\n",
    "shared without its sign": b"X-Auth-Request-Method: shared\r\n",
    "the sign alone": b"X-Auth-Request-Shared: true\r\n",
    "the sign, and another method": b"X-Auth-Request-Shared: true\r\nX-Auth-Request-Method: bearer\r\n",
    "another sign": b"X-Auth-Request-Shared: yes\r\nX-Auth-Request-Method: shared\r\n",
}


@pytest.mark.parametrize("said", ANSWERS)
@pytest.mark.parametrize("status", [b"200 OK", b"202 Accepted", b"204 No Content"])
def test_without_an_identity_in_skyauths_answer_nothing_goes_on(gateway: Gateway, said: str, status: bytes) -> None:
    raw = b"HTTP/1.1 %s\r\n%sContent-Length: 0\r\n\r\n" % (status, ANSWERS[said])
    if status.startswith(b"204"):
        raw = raw.replace(b"Content-Length: 0\r\n", b"")
    forged = [(f"X-Auth-Request-{name}", EVIL) for name in OWN_HEADERS]
    with gateway.ground.judging.answering(raw):
        assert gateway.ask().status in {403, 503}
        assert gateway.arriving([]) == []
        assert gateway.arriving([*forged, ("X-Auth-Request-Shared", "true"), ("Connection", "close, X-Auth-Request-Email")]) == []


def test_the_shared_password_reaches_the_server_unnamed_where_skyauth_says_so_and_only_there(gateway: Gateway) -> None:
    assert gateway.ask(basic("team", "team spirit")).status == 403
    assert gateway.arriving([basic("team", "team spirit")]) == []
    said = b"HTTP/1.1 200 OK\r\nX-Auth-Request-Email: \r\nX-Auth-Request-Method: shared\r\nX-Auth-Request-Shared: true\r\n"
    with gateway.ground.judging.answering(said + b"Content-Length: 0\r\n\r\n"):
        [arrived] = gateway.arriving([basic("team", "team spirit"), *((f"X-Auth-Request-{n}", EVIL) for n in OWN_HEADERS)])
    assert [(name, value) for name, value in arrived.headers if "auth" in name.lower()] in (
        [],
        [("X-Auth-Request-Method", "shared")],
    )


def test_an_auth_proxy_in_front_names_the_user_and_nobody_else_can(gateway: Gateway) -> None:
    assert only_as(BOB, gateway.arriving([("X-Auth-Request-Email", "Bob@Example.com")], source=AUTH_PROXY))
    assert gateway.ask_as(BOB).status == 200
    assert gateway.ask_as(ALICE, "/workspaces/config").status == 200
    assert gateway.ask_as(BOB, "/workspaces/config").status == 403
    assert gateway.ask(("X-Auth-Request-Email", BOB)).status == 401
    for forged in (f"{BOB},{ALICE}", "", "not an address", f"{BOB} "):
        arrived = gateway.arriving([("X-Auth-Request-Email", forged)], source=AUTH_PROXY)
        assert only_as(BOB, arrived), forged
    twice = gateway.arriving([("X-Auth-Request-Email", BOB), ("X-Auth-Request-Email", ALICE)], source=AUTH_PROXY)
    assert twice == [] if gateway.name == "caddy" else only_as(BOB, twice), "nginx 1.22 knows the first alone"
    dropped = [("X-Auth-Request-Email", BOB), ("Connection", "close, X-Auth-Request-Email")]
    assert only_as(BOB, gateway.arriving(dropped, source=AUTH_PROXY))
    [arrived] = gateway.arriving([("X-Auth-Request-Email", BOB), ("X-Forwarded-For", "192.0.2.9")], source=AUTH_PROXY)
    assert "192.0.2.9" in arrived.all("X-Forwarded-For")[0]


def test_who_may_do_what_is_held_at_the_edge_also_below_the_dashboards_prefix(gateway: Gateway) -> None:
    def status(who: str, method: str, path: str) -> list[int]:
        return [gateway.ask_as(who, prefix + path, method=method).status for prefix in ("", "/internal/dashboard")]

    for who in (ALICE, BOB, VERA):
        assert status(who, "GET", "/workspaces") == [200, 200]
        assert status(who, "GET", "/users/me/workspace") == [200, 200]
    assert status(ALICE, "GET", "/workspaces/config") == [200, 200]
    assert status(BOB, "GET", "/workspaces/config") == [403, 403]
    for path in ("/launch", "/down", "/api/cancel", "/users/me/workspace", "/nobody-knows"):
        with gateway.ground.serving.listening_in() as seen:
            assert status(VERA, "POST", path) == [403, 403]
            assert not seen
    assert 403 not in status(BOB, "POST", "/down"), "the server judges the body: there is none"


def test_what_skyauth_answers_itself_never_reaches_the_server(gateway: Gateway, pipeline: str) -> None:
    own = ("/api/health", "/users", "/users/role", "/users/service-account-tokens", "/token", "/auth/authorize", "/api/v1/whoami")
    paths = [*own, *(f"/internal/dashboard{path}" for path in own), "/sign-in", "/admin/", "/skyauth/", "/.well-known/jwks.json"]
    with gateway.ground.serving.listening_in() as seen:
        for path in paths:
            for headers in ([], [bearer(pipeline)]):
                assert ask(gateway.port, path, headers).status < 500, path
        assert not seen
    assert gateway.ask(bearer(pipeline), target="/api/v1/whoami").json["name"] == "pipeline"
    assert gateway.ask(bearer(pipeline), target="/api/health").json["user"]["name"] == "pipeline"
    versions = [("X-SkyPilot-API-Version", "62"), ("X-SkyPilot-Version", "0.14.1")]
    assert gateway.ask(*versions, target="/api/health").json["status"] == "needs_auth", "the server would say: healthy"


def test_a_request_is_followed_to_its_end(gateway: Gateway) -> None:
    """As the CLI does: a call is answered with an id, its output is streamed, and its result waited for."""
    body = json.dumps({"refresh": "NONE", "all_users": True}).encode()
    headers = [("X-Auth-Request-Email", BOB), ("Content-Type", "application/json")]
    asked = ask(gateway.port, "/status", headers, method="POST", body=body, source=AUTH_PROXY)
    assert asked.status == 200, asked
    request_id = asked.header("X-Skypilot-Request-ID")
    streamed = gateway.ask_as(BOB, f"/api/stream?request_id={request_id}")
    assert streamed.status == 200
    got = gateway.ask_as(BOB, f"/api/get?request_id={request_id}")
    assert got.status == 200
    assert json.loads(got.json["return_value"]) == []


def test_the_response_has_one_request_id_made_by_the_gateway(gateway: Gateway) -> None:
    """For the server's answer, for SkyAuth's own pages, and for a refusal. A client's id could be that of another request."""
    sent = ("X-Request-Id", "0123456789abcdef")
    answered = [
        gateway.ask_as(BOB, "/api/status", sent),
        ask(gateway.port, "/api/health", [sent]),
        ask(gateway.port, "/api/status", [sent, bearer("sky_x")]),
    ]
    ids = {reply.header("X-Request-Id") for reply in answered}
    assert len(ids) == len(answered), "each request has an id of its own"
    assert not ids & {None, sent[1]}


def test_an_upload_of_95_megabytes_arrives_and_is_not_collected_on_the_way(gateway: Gateway) -> None:
    size = 95_000_000  # what the CLI sends at a time
    target = f"/upload?user_hash=0123abcd&upload_id=sky-2026-11-26-00-00-00-000000-{uuid4().hex[:8]}&chunk_index=0&total_chunks=2"
    head = encode(
        "POST",
        target,
        [("X-Auth-Request-Email", BOB), ("Content-Length", str(size)), ("Content-Type", "application/octet-stream")],
    )
    with (
        gateway.ground.serving.listening_in() as seen,
        socket.create_connection((HOST, gateway.port), 60, (AUTH_PROXY, 0)) as connection,
    ):
        connection.sendall(head)
        piece = b"x" * 1_000_000
        for _ in range(10):
            connection.sendall(piece)
        wait_until(lambda: len(seen) > 1_000_000, "the beginning arrives before the end was sent")
        for _ in range(85):
            connection.sendall(piece)
        answer = connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        assert len(seen) > size
        del seen[:]


def test_a_websocket_is_opened_by_the_server_itself_for_those_who_may(gateway: Gateway, reader: str) -> None:
    target = "/kubernetes-pod-ssh-proxy?cluster_name=nowhere&client_version=1"

    def opened(headers: list[tuple[str, str | bytes]], source: str = HOST) -> bytes:
        with socket.create_connection((HOST, gateway.port), 60, (source, 0)) as connection:
            connection.sendall(encode("GET", target, [*headers, *HANDSHAKE]))
            return connection.recv(65_536)

    assert opened([]).startswith(b"HTTP/1.1 401")
    assert opened([bearer(reader)]).startswith(b"HTTP/1.1 403"), "a viewer opens no shell"
    answer = opened([("X-Auth-Request-Email", BOB)], AUTH_PROXY)
    assert answer.startswith(b"HTTP/1.1 101"), answer


def test_skyauth_down_means_nobody_passes_and_it_goes_on_by_itself(gateway: Gateway, pipeline: str) -> None:
    ground = gateway.ground
    ground.judging.close()
    try:
        refused = gateway.ask(bearer(pipeline))
        health = gateway.ask(target="/api/health")
        assert gateway.arriving([bearer(pipeline)]) == []
    finally:
        ground.judging.open()
    assert (refused.status, refused.json["code"]) == (503, "gateway"), "the CLI waits at 503, and gives up at 502"
    assert health.status == 503
    wait_until(lambda: gateway.ask(bearer(pipeline)).status == 200, "SkyAuth answers again")


def test_bytes_that_two_programs_read_differently_bring_nothing_through(gateway: Gateway, reader: str) -> None:
    named = gateway.arriving([bearer(reader)])[0].all("X-Auth-Request-Email")
    hidden = b"GET /users/export HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Auth-Request-Email: alice@example.com\r\n\r\n"
    forged = b"X-Auth-Request-Email: alice@example.com\r\n"
    start = b" HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + reader.encode() + b"\r\n"
    both = b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (len(hidden) + 5)
    attempts = [
        b"POST /status" + start + both + hidden,
        b"POST /status" + start + both.replace(b"chunked", b"xchunked") + hidden,
        b"POST /status" + start + b"Content-Length: 0\r\nContent-Length: 99\r\n\r\n" + hidden,
        b"GET /workspaces" + start + b"X-A: b\n" + forged + b"\r\n",
        b"GET /workspaces" + start + b"X-A: b\r\n " + forged + b"\r\n",
        b"GET /workspaces"
        + start
        + b"Transfer-Encoding: chunked\r\nTrailer: X-Auth-Request-Email\r\n\r\n0\r\n"
        + forged
        + b"\r\n",
    ]
    for raw in attempts:
        with gateway.ground.serving.listening_in() as seen:
            with socket.create_connection((HOST, gateway.port), 10) as connection:
                connection.sendall(raw)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65_536):
                    pass
            assert b"alice" not in bytes(seen), raw
            assert seen.count(b"X-Auth-Request-Email: " + named[0].encode()) == seen.count(b" HTTP/1.1\r\n"), raw


def test_doctor_finds_that_the_server_makes_everybody_an_administrator_and_who_was_changed_there(ground: Ground) -> None:
    def codes() -> list[str]:
        command = [sys.executable, "manage.py", "doctor", "--json"]
        done = subprocess.run(command, cwd=ROOT, env=ground.skyauth.environment, capture_output=True, text=True, check=False)
        return [found["code"] for found in json.loads(done.stdout)["findings"] if found["code"].startswith("skypilot.")]

    gateway = Gateway("caddy", ground.gateways["caddy"], ground)
    assert gateway.ask_as(VERA).status == 200
    [user_id] = [row["id"] for row in ground.server.ask("/users").json if row["name"] == VERA]
    assert ground.server.ask("/users/update", body={"user_id": user_id, "role": "admin"}).status == 200
    assert codes() == ["skypilot.roles", "skypilot.default-role"]
    ground.skyauth.console("forget_told_roles")
    assert gateway.ask_as(VERA).status == 200
    assert ground.server.users()[VERA] == "viewer"
