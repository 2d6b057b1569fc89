"""The session key of a request: one reader, so that the gateway and all other interfaces see the same session, or none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authn.session_cookie import session_key
from rbac.principals import Method
from tests.http_client import ask
from tests.servers import SkyAuth

KEY = "k3y" * 10
OTHER = "0th3r" * 6
TARGET = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", "api.example.com"), ("X-Forwarded-Uri", "/things")]

# Each is a list of Cookie headers, and whether they name the session KEY.
HEADERS: list[tuple[list[str], bool]] = [
    (["skyauth=KEY"], True),
    (["skyauth=KEY;"], True),
    ([" skyauth = KEY "], True),
    (["a=1; skyauth=KEY; b=2"], True),
    (["a=1", "skyauth=KEY"], True),
    (["skyauth=KEY; skyauth=KEY"], True),
    (["skyauth=KEY", "skyauth=KEY"], True),
    (["broken; skyauth=KEY"], True),
    (['a="; skyauth=KEY; b="'], True),
    (["skyauth=KEY; skyauth=OTHER"], False),
    (["skyauth=OTHER; skyauth=KEY"], False),
    (["skyauth=OTHER", "skyauth=KEY"], False),
    (["skyauth=; skyauth=KEY"], False),
    (['skyauth="KEY"'], False),
    (["skyauth=\\113EY"], False),
    (["skyauth=KEY,"], False),
    (["skyauth=KEY, skyauth=KEY"], False),
    (["skyauth=KEY\u00a0"], False),
    (["skyauth=KEY\u00e9"], False),
    (["skyauth=%4bEY"], False),
    (["SkyAuth=KEY"], False),
    (["skyauth"], False),
    (["skyauth="], False),
    (["=KEY"], False),
    (["skyauth-csrf=KEY"], False),
    (["skyauth=KEY=1"], False),
]
IDS = [" | ".join(lines) for lines, _ in HEADERS]


def with_key(lines: list[str], key: str) -> list[str]:
    return [line.replace("KEY", key).replace("OTHER", OTHER) for line in lines]


@pytest.mark.parametrize(("lines", "named"), HEADERS, ids=IDS)
def test_a_session_key_is_read_strictly(lines: list[str], named: bool) -> None:
    raw = [line.encode("latin-1") for line in with_key(lines, KEY)]
    assert session_key(raw) == (KEY if named else None)


@pytest.mark.e2e
@pytest.mark.parametrize(("lines", "named"), HEADERS, ids=IDS)
def test_the_gateway_and_all_interfaces_read_the_same_session_key(
    server: SkyAuth, credentials: dict[Method, list[tuple[str, str]]], lines: list[str], named: bool
) -> None:
    key = credentials[Method.SESSION][0][1].removeprefix("skyauth=")
    headers = [("Cookie", line) for line in with_key(lines, key)]
    statuses = {
        path: ask(server.port, path, [*headers, *target]).status
        for path, target in (
            ("/authz/verify", TARGET),
            ("/api/v1/whoami", []),
            ("/skyauth/", []),
            ("/users", []),
            ("/admin/", []),
        )
    }
    assert statuses == (
        {"/authz/verify": 200, "/api/v1/whoami": 200, "/skyauth/": 200, "/users": 200, "/admin/": 200}
        if named
        else {"/authz/verify": 401, "/api/v1/whoami": 401, "/skyauth/": 302, "/users": 401, "/admin/": 302}
    )


@given(st.lists(st.binary(max_size=60)))
def test_a_key_that_is_read_has_ascii_letters_and_digits_only(lines: list[bytes]) -> None:
    key = session_key(lines)
    assert key is None or (key.isascii() and key.isalnum())


def test_the_secure_name_of_the_cookie_is_another_cookie(settings) -> None:
    settings.SESSION_COOKIE_NAME = "__Host-skyauth"
    assert session_key([b"skyauth=abc"]) is None
    assert session_key([b"skyauth=abc; __Host-skyauth=def"]) == "def"
