"""The numbered checks of settings: SkyAuth refuses an unsafe configuration and says what to write instead."""

import json
import re
from pathlib import Path

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command

from authn import jwt_keys
from doctor.deployment import deployed
from doctor.settings_checks import (
    assertion_keys,
    assertions,
    auth_string,
    default_role,
    proxy_header,
    reachable_server,
    shared_names,
    token_days,
    trusted_proxies,
)
from rbac.models import Role
from tests.factories import UserFactory

BCRYPT = "$2b$10$" + "a" * 53


def ids(messages):
    assert all(message.hint for message in messages), "every message says what to write instead"
    return [message.id.removeprefix("skyauth.") for message in messages]


@pytest.fixture
def safe(settings, tmp_path):
    """Settings without a finding."""
    settings.TRUSTED_PROXIES = ["127.0.0.1"]
    settings.RBAC_DEFAULT_ROLE = "first-admin"
    settings.PUBLIC_URL, settings.SECURE_COOKIES = "https://auth.example.com", True
    settings.AUTH_STRING = ""
    settings.DATA_DIR = tmp_path
    return settings


@pytest.mark.django_db
def test_a_safe_configuration_passes_every_check(safe):
    messages = run_checks(include_deployment_checks=True, databases=["default"])
    assert [message for message in messages if (message.id or "").startswith("skyauth.")] == []


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        ([], []),
        (["127.0.0.1", "10.0.0.0/8", "fd00::/8"], []),
        (["10.0.0.0/33"], ["E001"]),
        (["proxy.internal"], ["E001"]),
        (["*"], ["E001"]),
        (["10.0.0.1/8"], ["E001"]),
        (["0.0.0.0/0"], ["E002"]),
        (["10.0.0.1", "::/0"], ["E002"]),
    ],
)
def test_promise_02_trusted_proxies_are_networks_and_not_every_address(safe, networks, expected):
    safe.TRUSTED_PROXIES = networks
    assert ids(trusted_proxies()) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"DEBUG": True}, ["E030"]),
        ({"ALLOWED_HOSTS": ["auth.example.com", "*"]}, ["E031"]),
        ({"ALLOWED_HOSTS": [".example.com"]}, []),
        ({"DEBUG": True, "ALLOWED_HOSTS": ["*"]}, ["E030", "E031"]),
        ({"DEBUG": True, "PUBLIC_URL": "http://10.0.0.5:8000", "SECURE_COOKIES": False}, ["E030"]),
        ({"DEBUG": True, "ALLOWED_HOSTS": ["*"], "PUBLIC_URL": "http://127.0.0.1:8000", "SECURE_COOKIES": False}, []),
        ({"DEBUG": True, "PUBLIC_URL": "http://[::1]:8000", "SECURE_COOKIES": False}, []),
    ],
)
def test_a_server_for_others_shows_no_debug_pages_and_answers_for_its_own_hosts(safe, changes, expected):
    for name, value in changes.items():
        setattr(safe, name, value)
    assert ids(reachable_server()) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"AUTH_USER_HEADER_FORMAT": "off", "TRUSTED_PROXIES": [], "AUTH_USER_HEADER": ""}, []),
        ({}, []),
        ({"AUTH_GROUPS_HEADER": "X-Groups"}, []),
        ({"TRUSTED_PROXIES": []}, ["E003"]),
        ({"AUTH_USER_HEADER": ""}, ["E004"]),
        ({"AUTH_USER_HEADER": "X_Auth_Request_Email"}, ["E004"]),
        ({"AUTH_USER_HEADER": "X.Auth"}, ["E004"]),
        ({"AUTH_USER_HEADER": "X-Who:"}, ["E004"]),
        ({"AUTH_USER_HEADER": "Authorization"}, ["E004"]),
        ({"AUTH_USER_HEADER": "cookie"}, ["E004"]),
        ({"AUTH_USER_HEADER": "User-Agent"}, ["E004"]),
        ({"AUTH_GROUPS_HEADER": "Host"}, ["E004"]),
        ({"AUTH_GROUPS_HEADER": "x-auth-request-email"}, ["E004"]),
        ({"AUTH_GROUPS_HEADER": "X-Forwarded-For"}, ["E004"]),
        ({"AUTH_GROUPS_HEADER": "X-Forwarded-Groups", "AUTH_USER_HEADER": "Cf-Access-Jwt-Assertion"}, []),
        ({"AUTH_USER_HEADER": "X-Forwarded-Host"}, ["E004"]),
        ({"AUTH_USER_HEADER": "x-original-uri"}, ["E004"]),
        ({"AUTH_USER_HEADER": "Origin"}, ["E004"]),
        ({"AUTH_USER_HEADER": "Sec-Fetch-Site"}, ["E004"]),
        ({"AUTH_GROUPS_HEADER": "X-Skypilot-Auth-Mode"}, ["E004"]),
        ({"AUTH_GROUPS_HEADER": "Content-Length"}, ["E004"]),
        ({"AUTH_USER_HEADER": "é", "AUTH_GROUPS_HEADER": "X Groups", "TRUSTED_PROXIES": []}, ["E003", "E004", "E004"]),
    ],
)
def test_promise_02_header_sign_in_needs_a_trusted_proxy_and_a_plain_header(safe, changes, expected):
    safe.AUTH_USER_HEADER_FORMAT = "plaintext"
    for name, value in changes.items():
        setattr(safe, name, value)
    assert ids(proxy_header()) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"AUTH_USER_HEADER_FORMAT": "plaintext", "AUTH_JWT_JWKS": "", "AUTH_JWT_ISSUER": ""}, []),
        ({"AUTH_JWT_JWKS": ""}, ["E005"]),
        ({"AUTH_JWT_JWKS": "", "AUTH_JWT_ISSUER": "", "AUTH_JWT_AUDIENCE": ""}, ["E005"] * 3),
        ({"AUTH_JWT_ALGORITHMS": ["RS256", "HS256", "none"]}, ["E006"]),
        ({"AUTH_JWT_ALGORITHMS": ["rs256"]}, ["E006"]),
        ({"AUTH_JWT_JWKS": "http://idp.example.com/keys"}, ["E007"]),
        ({"AUTH_JWT_JWKS": "http:///keys"}, ["E007"]),
        ({"AUTH_JWT_JWKS": "http://127.0.0.1.evil.example/keys"}, ["E007"]),
        ({"AUTH_JWT_JWKS": "http://127.0.0.1:9/keys"}, []),
        ({"AUTH_JWT_JWKS": "http://[::1]:9/keys"}, []),
        ({"AUTH_JWT_JWKS": "http://localhost/keys"}, []),
        ({"AUTH_JWT_JWKS": "https://idp.example.com/keys"}, []),
        ({"AUTH_JWT_JWKS": "/no/such/file.json"}, ["E008"]),
    ],
)
def test_promise_06_assertions_need_keys_issuer_audience_and_asymmetric_algorithms(safe, changes, expected):
    path = Path(safe.DATA_DIR) / "keys.json"
    path.write_text(json.dumps({"keys": []}))
    safe.AUTH_USER_HEADER_FORMAT = "jwt"
    safe.AUTH_JWT_JWKS, safe.AUTH_JWT_ISSUER, safe.AUTH_JWT_AUDIENCE = str(path), "https://idp.example.com", "skyauth"
    for name, value in changes.items():
        setattr(safe, name, value)
    assert ids(assertions()) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (f"team:{BCRYPT}", []),
        (f"team:{BCRYPT} other:{BCRYPT.replace('$10$', '$14$')}", []),
        ("team:$apr1$abcdefgh$0123456789012345678901", []),
        ("team:$6$rounds=5000$salt$hash", []),
        ("team:$5$salt$hash", []),
        (f"team:{BCRYPT.replace('$10$', '$03$')}", ["E009"]),
        (f"team:{BCRYPT.replace('$10$', '$15$')}", ["E009"]),
        (f"team:{BCRYPT.replace('$10$', '$31$')}", ["E009"]),
        ("team:$6$rounds=99999999$salt$hash", ["E009"]),
        ("team:$5$rounds=10$salt$hash", ["E009"]),
        ("team:$6$rounds=5000$rounds=99999999$hash", ["E009"]),
        ("team:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", ["E009"]),
        ("team:plaintext", ["E009"]),
        ("team:rqXexS6ZhobKA", ["E009"]),
        ("team:", ["E009"]),
        ("team", ["E009"]),
        ("team:a:b", ["E009"]),
        ("#comment", ["E009"]),
        (f"one:plain two:{BCRYPT} three:plain", ["E009", "E009"]),
    ],
)
def test_promise_20_shared_hashes_meet_a_floor_and_a_ceiling(safe, text, expected):
    safe.AUTH_STRING = text
    assert ids(auth_string()) == expected
    assert not any("plain" in message.msg or BCRYPT in message.msg for message in auth_string())


@pytest.mark.parametrize(("default", "longest", "expected"), [(30, 0, []), (30, 30, []), (31, 30, ["E010"]), (30, 365, [])])
def test_promise_12_the_default_lifetime_of_a_token_is_at_most_the_maximum(safe, default, longest, expected):
    safe.TOKEN_DEFAULT_DAYS, safe.TOKEN_MAX_DAYS = default, longest
    assert ids(token_days()) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], []),
        (["one"], []),
        (["one", "rsa"], []),
        (["none"], ["E020"]),
        (["one", "open", "junk"], ["E020", "E020"]),
        (["one", "rsa", "copy"], ["E021"]),
    ],
)
def test_promise_06_assertions_are_signed_with_keys_that_no_other_user_can_read(safe, names, expected):
    folder = Path(safe.DATA_DIR)
    pem = jwt_keys.new_pem()
    for name, text in {"one": pem, "copy": pem, "rsa": jwt_keys.new_pem(rsa=True), "open": pem, "junk": "hunter2"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o644 if name == "open" else 0o600)
    safe.ASSERTION_KEYS = [folder / name for name in names]
    messages = assertion_keys()
    assert ids(messages) == expected
    for message in messages:
        assert "PRIVATE" not in f"{message.msg} {message.hint}"
        assert "hunter2" not in f"{message.msg} {message.hint}"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "databases", "expected"),
    [
        ("first-admin", ["default"], []),
        ("admin", ["default"], []),
        ("viewer", ["default"], []),
        ("Admin", ["default"], ["E011"]),
        ("nosuch", ["default"], ["E011"]),
        ("", ["default"], ["E011"]),
        ("nosuch", None, []),
    ],
)
def test_the_default_role_exists(safe, name, databases, expected):
    safe.RBAC_DEFAULT_ROLE = name
    messages = default_role(databases=databases)
    assert ids(messages) == expected
    assert all("first-admin, admin, user, viewer" in message.hint for message in messages)


@pytest.mark.django_db
def test_the_default_role_is_not_checked_before_the_first_migration(safe):
    from django.db import connection

    safe.RBAC_DEFAULT_ROLE = "nosuch"
    Role.objects.all().delete()
    assert default_role(databases=["default"]) == []
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE rbac_role RENAME TO rbac_role_gone")
    try:
        assert default_role(databases=["default"]) == []
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE rbac_role_gone RENAME TO rbac_role")


@pytest.mark.django_db
def test_a_database_error_is_not_reported_as_a_wrong_setting(safe):
    from django.db import OperationalError, connection

    def fail(execute, sql, params, many, context):
        raise OperationalError("unable to open database file")

    safe.RBAC_DEFAULT_ROLE, safe.AUTH_STRING = "nosuch", f"team:{BCRYPT}"
    with connection.execute_wrapper(fail):
        assert default_role(databases=["default"]) == []
        assert shared_names(databases=["default"]) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("text", "databases", "expected"),
    [
        (f"bob@example.com:{BCRYPT}", ["default"], ["E012"]),
        (f"Bob@Example.com:{BCRYPT} team:{BCRYPT}", ["default"], ["E012"]),
        (f"team:{BCRYPT}", ["default"], []),
        (f"bob@example.com:{BCRYPT}", None, []),
        ("nonsense", ["default"], []),
        ("", ["default"], []),
    ],
)
def test_promise_07_the_shared_credential_cannot_have_the_name_of_a_user(safe, text, databases, expected):
    UserFactory(username="bob@example.com")
    safe.AUTH_STRING = text
    assert ids(shared_names(databases=databases)) == expected


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"RBAC_DEFAULT_ROLE": "admin"}, ["W101"]),
        ({"RBAC_DEFAULT_ROLE": "user"}, []),
        ({"TRUSTED_PROXIES": []}, ["W102"]),
        ({"PUBLIC_URL": "http://auth.example.com", "SECURE_COOKIES": False}, ["W103"]),
        ({"PUBLIC_URL": "http://127.0.0.1:8000", "SECURE_COOKIES": False}, []),
        ({"TRUSTED_PROXIES": ["10.0.0.0/8"]}, ["W104"]),
        ({"TRUSTED_PROXIES": ["10.0.0.0/16"]}, []),
        ({"TRUSTED_PROXIES": ["0.0.0.0/1", "128.0.0.0/1"]}, ["W104"]),
        ({"TRUSTED_PROXIES": ["nonsense"]}, []),  # E001 reports it
        ({"AUTH_STRING": f"team:{BCRYPT}"}, ["W106"]),
        ({"UNUSED_SETTINGS": {"CACHE_URL": "Nothing uses a cache."}}, ["W107"]),
    ],
)
def test_settings_that_are_wrong_for_production_are_warnings(safe, changes, expected):
    for name, value in changes.items():
        setattr(safe, name, value)
    assert ids(deployed()) == expected


@pytest.mark.django_db
def test_promise_35_skyauth_refuses_to_start_with_an_unsafe_configuration(safe):
    safe.AUTH_USER_HEADER_FORMAT, safe.TRUSTED_PROXIES = "plaintext", []
    with pytest.raises(CommandError, match="E003"):
        call_command("check")
    safe.TRUSTED_PROXIES = ["nonsense"]
    with pytest.raises(CommandError, match="E001"):
        call_command("check", deploy=True)


@pytest.mark.django_db
def test_promise_35_skyauth_refuses_to_start_with_a_default_role_that_does_not_exist(safe):
    safe.RBAC_DEFAULT_ROLE = "operator"
    with pytest.raises(CommandError, match="E011"):
        call_command("check", databases=["default"])


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, []),
        ({"AUTH_GROUPS_HEADER": "X-Groups"}, ["AUTH_GROUPS_HEADER"]),
        ({"AUTH_GROUPS_HEADER": "X-Groups", "AUTH_USER_HEADER_FORMAT": "plaintext"}, []),
        ({"AUTH_GROUPS_HEADER": "X-Groups", "AUTH_USER_HEADER_FORMAT": "jwt"}, ["AUTH_GROUPS_HEADER"]),
        ({"AUTH_GROUPS_SEPARATOR": ";", "AUTH_USER_HEADER_FORMAT": "jwt"}, ["AUTH_GROUPS_SEPARATOR"]),
        ({"AUTH_GROUPS_SEPARATOR": ";", "AUTH_USER_HEADER_FORMAT": "plaintext"}, ["AUTH_GROUPS_SEPARATOR"]),
        (
            {"AUTH_GROUPS_SEPARATOR": ";", "AUTH_USER_HEADER_FORMAT": "plaintext", "AUTH_GROUPS_HEADER": "X-Groups"},
            [],
        ),
        ({"AUTH_USER_HEADER": "X-Forwarded-Email", "AUTH_USER_PREFIX": "idp:"}, ["AUTH_USER_HEADER, AUTH_USER_PREFIX"]),
        ({"AUTH_JWT_CLAIM": "upn", "AUTH_JWT_MAX_HOURS": 12}, ["AUTH_JWT_CLAIM, AUTH_JWT_MAX_HOURS"]),
        ({"AUTH_JWT_GROUPS_CLAIM": "roles", "AUTH_USER_HEADER_FORMAT": "jwt"}, []),
        ({"AUTH_JWT_ISSUER": "https://sso", "AUTH_JWT_AUDIENCE": "sky"}, ["AUTH_JWT_ISSUER, AUTH_JWT_AUDIENCE"]),
        ({"AUTH_JWT_ISSUER": "https://sso", "AUTH_USER_HEADER_FORMAT": "jwt"}, []),
        ({"ASSERTION_AUDIENCE": "api"}, ["ASSERTION_AUDIENCE"]),
        ({"ASSERTION_AUDIENCE": "api", "ASSERTION_KEYS": ["a.pem"]}, []),
        ({"AUTH_STRING": f"team:{BCRYPT}", "AUTH_BASIC": False}, ["AUTH_STRING"]),
        ({"SKYPILOT_SHARED_BASIC": True}, ["SKYPILOT_SHARED_BASIC"]),
    ],
)
def test_promise_48_a_setting_that_another_one_switches_off_is_named(safe, changes, names):
    for name, value in changes.items():
        setattr(safe, name, value)
    safe.CHANGED_SETTINGS = frozenset(changes)
    found = [message for message in deployed() if message.id == "skyauth.W108"]
    assert [re.split(" ha(?:s|ve) no effect", message.msg)[0] for message in found] == names
