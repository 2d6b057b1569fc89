"""The real server signs, and an upstream verifies as docs/guides/signed-assertions.md says: with that very code, over HTTP."""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from authn import jwt_keys
from tests.http_client import HOST, ask, basic, bearer
from tests.servers import ROOT, SkyAuth, directory, skyauth_server

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("assertions"), pytest.mark.sqlite]

BOB = "bob@example.com"
KEY_SET = "/.well-known/jwks.json"
GUIDE = (ROOT / "docs" / "guides" / "signed-assertions.md").read_text(encoding="utf-8")
EXAMPLE = re.search(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)

Verify = Callable[[str], dict[str, Any]]


def verifier(server: SkyAuth, *, algorithm: str = "EdDSA") -> Verify:
    """Return the documented function, told of this server and this key's algorithm, and with nothing fetched yet."""
    assert EXAMPLE is not None
    code = EXAMPLE[1]
    for written, here in (("https://auth.example.com", server.address), ("api.example.com", HOST), ('"EdDSA"', f'"{algorithm}"')):
        assert written in code
        code = code.replace(written, here)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - the documentation's code is what is tested
    return names["caller"]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Stage:
    """A server that signs, and its keys, of which the first two are configured."""

    server: SkyAuth
    files: dict[str, Path]
    token: str

    def restart(self, *names: str) -> None:
        """Restart the server with these keys."""
        self.server.stop()
        self.server.environment["ASSERTION_KEYS"] = ",".join(str(self.files[name]) for name in names)
        self.server.start()

    def assertion(self, *headers: tuple[str, str | bytes], **asked: str) -> str:
        """Ask as a proxy does, and return the assertion in the answer; the service account's, unless said otherwise."""
        reply = self.server.ask(*(headers or [bearer(self.token)]), **asked)
        return carried(reply)

    def signed(self, algorithm: str = "EdDSA", *, key: Any = None, headers: dict[str, str] | None = None, **changes: Any) -> str:
        """Return an assertion that the server might have made, but for the changes; `...` takes a claim away."""
        now = int(time.time())
        good = {"iss": self.server.address, "sub": "x", "aud": HOST, "iat": now, "exp": now + 60, "email": BOB}
        claims = {name: value for name, value in {**good, **changes}.items() if value is not ...}
        kid = jwt_keys.read(self.files["ed"]).kid
        return jwt.encode(
            claims, key or jwt_keys.read(self.files["ed"]).private, algorithm, headers={"kid": kid, **(headers or {})}
        )


def carried(reply: Any) -> str:
    """Return the one value of the header with the assertion."""
    assert len(reply.all("X-Auth-Request-Jwt")) == 1, reply
    return str(reply.header("X-Auth-Request-Jwt"))


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """SkyAuth that signs with Ed25519, logs all it can, and has bob and his service account."""
    with directory() as keys:
        files = {}
        for name in ("ed", "next", "rsa"):
            files[name] = keys / f"{name}.pem"
            files[name].touch(mode=0o600)
            files[name].write_text(jwt_keys.new_pem(rsa=name == "rsa"), encoding="ascii")
        with skyauth_server(
            ASSERTION_KEYS=f"{files['ed']},{files['next']}",
            LOG_LEVEL="DEBUG",
            AUTH_USER_HEADER_FORMAT="plaintext",
            RBAC_DEFAULT_ROLE="user",
        ) as server:
            server.console("create_user", name=BOB, role="user")
            server.console("create_account", name="pipeline", role="user", owner=BOB)
            yield Stage(server, files, server.console("issue", account="pipeline"))


@pytest.fixture
def ours(stage: Stage) -> Stage:
    """The stage with its first keys, whatever a test before has made of it."""
    if stage.server.environment["ASSERTION_KEYS"] != f"{stage.files['ed']},{stage.files['next']}":
        stage.restart("ed", "next")
    return stage


def test_promise_06_an_upstream_verifies_with_the_documented_code(ours: Stage) -> None:
    verify = verifier(ours.server)
    machine = verify(ours.assertion())
    assert (machine["role"], machine["method"], machine["groups"]) == ("user", "bearer", [])
    assert re.fullmatch(r"pipeline@sa-[0-9a-f]{16}", machine["email"])
    assert machine["email"].endswith(machine["sub"])
    person = verify(ours.assertion(("X-Auth-Request-Email", BOB)))
    assert (person["email"], person["method"], person["exp"] - person["iat"]) == (BOB, "proxy", 60)


def test_over_a_connection_that_stays_open_one_assertion_is_given_again(ours: Stage) -> None:
    name, value = bearer(ours.token)
    asked = {"X-Forwarded-Method": "GET", "X-Forwarded-Host": HOST, "X-Forwarded-Uri": "/", name: value.decode()}
    with closing(HTTPConnection(HOST, ours.server.port, timeout=30)) as connection:
        seen = []
        for _ in range(20):
            connection.request("GET", "/authz/verify", headers=asked)
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            seen.append(answer.getheader("X-Auth-Request-Jwt"))
    assert len(set(seen)) <= 2, "two, if half a minute ended in between"
    assert verifier(ours.server)(str(seen[-1]))["role"] == "user"


def test_promise_06_each_api_gets_an_assertion_that_no_other_accepts(ours: Stage) -> None:
    verify = verifier(ours.server)
    told = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", "other.example.com"), ("X-Forwarded-Uri", "/")]
    elsewhere = carried(ask(ours.server.port, "/authz/verify", [*told, bearer(ours.token)]))
    assert jwt.decode(elsewhere, options={"verify_signature": False})["aud"] == "other.example.com"
    with pytest.raises(jwt.InvalidAudienceError):
        verify(elsewhere)


def by_hand(header: dict[str, str], claims: dict[str, Any], secret: bytes = b"") -> str:
    """Return a token that no library would make: not signed at all, or by an HMAC with what everybody can fetch."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = hmac.digest(secret, b".".join(parts), hashlib.sha256) if secret else b""
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


FORGED: dict[str, Callable[[Stage], str]] = {
    "another issuer": lambda stage: stage.signed(iss="https://evil.example"),
    "no issuer": lambda stage: stage.signed(iss=...),
    "another audience": lambda stage: stage.signed(aud="evil.example"),
    "no audience": lambda stage: stage.signed(aud=...),
    "ended": lambda stage: stage.signed(iat=int(time.time()) - 90, exp=int(time.time()) - 30),
    "without an end": lambda stage: stage.signed(exp=...),
    "from tomorrow": lambda stage: stage.signed(iat=int(time.time()) + 86_400, exp=int(time.time()) + 86_460),
    "of nobody": lambda stage: stage.signed(sub=...),
    "another's key": lambda stage: stage.signed(key=load_pem_private_key(jwt_keys.new_pem().encode(), None)),
    "an unknown key id": lambda stage: stage.signed(headers={"kid": "mine"}),
    "another algorithm": lambda stage: stage.signed("RS256", key=jwt_keys.read(stage.files["rsa"]).private),
    "not signed": lambda stage: by_hand({"alg": "none", "kid": kid(stage)}, claims(stage)),
    "an HMAC with the public key": lambda stage: by_hand(
        {"alg": "HS256", "kid": kid(stage)}, claims(stage), public(stage)
    ),
    "changed on the way": lambda stage: changed(stage.assertion()),
    "empty": lambda stage: "",
}  # fmt: skip


def kid(stage: Stage) -> str:
    return jwt_keys.read(stage.files["ed"]).kid


def public(stage: Stage) -> bytes:
    return base64.urlsafe_b64decode(jwt_keys.read(stage.files["ed"]).public()["x"] + "=")


def claims(stage: Stage) -> dict[str, Any]:
    return jwt.decode(stage.signed(), options={"verify_signature": False})


def changed(token: str) -> str:
    """Return the token with another role in it, under its old signature."""
    header, _, signature = token.split(".")
    said = {**jwt.decode(token, options={"verify_signature": False}), "role": "admin"}
    return ".".join([header, base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode(), signature])


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_promise_06_the_documented_code_refuses_what_is_not_right_in_every_point(
    ours: Stage, forge: Callable[[Stage], str]
) -> None:
    verify = verifier(ours.server)
    assert verify(ours.signed())["email"] == BOB, "right in every point"
    with pytest.raises(jwt.PyJWTError):
        verify(forge(ours))


def test_promise_28_a_clients_own_assertion_never_comes_back(ours: Stage) -> None:
    forged = ours.signed(role="admin")
    for name in ("X-Auth-Request-Jwt", "X_Auth_Request_Jwt", "x.auth.request.jwt"):
        assert ours.assertion(bearer(ours.token), (name, forged)) not in {forged, ""}
        assert ours.assertion((name, forged)) == ""
        assert ours.assertion(bearer("sky_bad"), (name, forged)) == ""


def test_skyauth_accepts_none_of_its_own_assertions(ours: Stage) -> None:
    assertion = ours.assertion()
    assert ours.server.ask(bearer(assertion)).status == 401
    assert ours.server.ask(basic(BOB, assertion)).status == 401
    assert ours.server.ask(("X-Auth-Request-Email", assertion)).status == 401


def test_promise_15_the_next_assertion_after_a_change_says_what_holds_now(ours: Stage) -> None:
    verify = verifier(ours.server)
    try:
        for role in ("viewer", "user") * 4:
            ours.server.console("set_role", name=BOB, role=role)
            assert verify(ours.assertion(("X-Auth-Request-Email", BOB)))["role"] == role
            assert verify(ours.assertion())["role"] == role, "a machine never does more than its owner"
    finally:
        ours.server.console("set_role", name=BOB, role="user")


def test_promise_14_who_is_disabled_gets_no_further_assertion(ours: Stage) -> None:
    assert ours.assertion(("X-Auth-Request-Email", BOB))
    ours.server.console("set_active", name=BOB, active=False)
    try:
        for header in (("X-Auth-Request-Email", BOB), bearer(ours.token)):
            reply = ours.server.ask(header)
            assert (reply.status, carried(reply)) == (401, "")
    finally:
        ours.server.console("set_active", name=BOB, active=True)


def test_the_key_set_is_there_for_everybody_and_says_how_long_it_may_be_kept(ours: Stage) -> None:
    for headers in ([], [("Host", "skyauth.internal")], [("Origin", "https://evil.example")], [bearer("sky_bad")]):
        reply = ask(ours.server.port, KEY_SET, headers, source="127.0.0.2")
        assert reply.status == 200
        assert reply.header("Content-Type") == "application/jwk-set+json"
        assert reply.header("Cache-Control") == "public, max-age=300"
        assert not [name for name, _ in reply.headers if name.lower().startswith(("access-control", "set-cookie"))]
        assert [key["kid"] for key in reply.json["keys"]] == [jwt_keys.read(ours.files[name]).kid for name in ("ed", "next")]
    head = ask(ours.server.port, KEY_SET, method="HEAD")
    assert (head.status, head.body, head.header("Content-Length")) == (200, b"", reply.header("Content-Length"))
    assert ask(ours.server.port, KEY_SET, method="POST", body=b"x").status == 405
    assert ask(ours.server.port, KEY_SET + "?x=1").status == 200


def test_a_key_is_changed_without_one_assertion_that_cannot_be_verified(ours: Stage) -> None:
    ours.restart("ed")
    before = ours.assertion()
    assert verifier(ours.server)(before)
    ours.restart("ed", "rsa")  # both published, the old one signs
    old = ours.assertion()
    algorithms = {"old": "EdDSA", "new": "RS256"}
    during = {name: verifier(ours.server, algorithm=algorithm) for name, algorithm in algorithms.items()}
    assert during["old"](old)
    with pytest.raises(jwt.PyJWTError):
        during["new"](old)  # has fetched the key set, as it is now
    ours.restart("rsa", "ed")  # the new one signs, and what the old one signed is still good
    new = ours.assertion()
    after = {name: verifier(ours.server, algorithm=algorithm) for name, algorithm in algorithms.items()}
    assert after["old"](old)
    assert after["new"](new)
    ours.server.stop()
    try:
        assert during["new"](new), "what was fetched before the change suffices after it"
        assert during["old"](old)
    finally:
        ours.server.start()
    ours.restart("rsa")
    assert [key["alg"] for key in ask(ours.server.port, KEY_SET).json["keys"]] == ["RS256"]
    late = verifier(ours.server, algorithm="RS256")
    assert late(ours.assertion())
    with pytest.raises(jwt.PyJWTError):
        verifier(ours.server)(old)


def test_promise_06_no_private_key_gets_out(ours: Stage) -> None:
    ours.assertion()
    ours.server.ask(bearer("sky_bad"))
    published = ask(ours.server.port, KEY_SET)
    assert all(set(key) <= {"kty", "crv", "x", "n", "e", "kid", "use", "alg"} for key in published.json["keys"])
    everything = ours.server.log + published.body.decode() + repr(ours.server.ask(bearer(ours.token)))
    for path in ours.files.values():
        for line in path.read_text(encoding="ascii").splitlines()[1:-1]:
            assert line not in everything
        assert "PRIVATE KEY" not in everything


def test_without_keys_there_is_neither_key_set_nor_assertion(ours: Stage) -> None:
    ours.restart()
    assert ask(ours.server.port, KEY_SET).status == 404
    assert ours.assertion() == ""


def test_promise_06_a_key_that_others_can_read_keeps_the_server_from_starting(ours: Stage) -> None:
    ours.files["next"].chmod(0o644)
    try:
        with pytest.raises(AssertionError, match=r"skyauth\.E020"):
            ours.restart("ed", "next")
    finally:
        ours.files["next"].chmod(0o600)
        ours.restart("ed", "next")
