"""CLI login: the pages on which a user authorizes it, and the endpoint that the CLI polls."""

import base64
import json
import re
from datetime import timedelta
from hashlib import sha256
from typing import Any

import bcrypt
import pytest
from django.conf import settings as django_settings
from django.db import OperationalError, connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import CliAuthorization, CliLoginRequest, Session, SessionKind, User
from audit.models import Entry
from authn import cli_login, sessions
from authn.sessions import begin_cli_session, end_sessions
from core.errors import Forbidden, Invalid, NotFound
from rbac.principals import Method
from skypilot.sign_in import _cookies
from tests import skypilot_client
from tests.factories import PASSWORD, UserFactory, make_token, principal
from tests.races import at_once
from tests.skypilot_client import PREFIX, Sky

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
ADDRESS = f"/auth/authorize?code_challenge={CHALLENGE}"
BOTH = pytest.mark.parametrize("prefix", ["", PREFIX])


def browser(user: User | None = None) -> Client:
    """Return a browser, with CSRF checks."""
    client = Client(raise_request_exception=False, enforce_csrf_checks=True)
    if user is not None:
        client.force_login(user)
    return client


def consent(client: Client, address: str, **headers: str) -> Any:
    """Open the page and submit its form."""
    page = client.get(address)
    assert page.status_code == 200, page.content
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]+)">', page.content.decode()))
    return client.post(address, fields, headers={"Origin": "http://testserver", **headers})


def poll(verifier: str = VERIFIER, prefix: str = "") -> Any:
    return Client(raise_request_exception=False).get(f"{prefix}/api/v1/auth/token", {"code_verifier": verifier})


def token_on(response: Any) -> str:
    """Return the token on a page."""
    result = re.search(r'id="token-box">([^<]*)<', response.content.decode())
    assert result, response.content
    return result[1]


def read(token: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(base64.b64decode(token, validate=True))
    return value


def cli(value: dict[str, Any]) -> Sky:
    """Return the CLI with its credentials."""
    client = Client(raise_request_exception=False)
    for name, cookie in value["cookies"].items():
        client.cookies[name] = cookie
    return Sky(client)


def authorize(client: Client, body: Any, **headers: str) -> Any:
    return Sky(client).post("/api/v1/auth/authorize", body, **headers)


@BOTH
def test_the_cli_polls_until_the_user_authorizes_it_and_then_has_its_own_session(bob, prefix):
    client = browser(bob)
    before = poll(prefix=prefix)
    page = consent(client, prefix + ADDRESS)
    answer = poll(prefix=prefix)
    assert (before.status_code, before.json()) == (404, {"detail": "Session not found"})
    assert page.status_code == 200
    assert "Return to your terminal" in page.content.decode()
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    value = read(answer.json()["token"])
    assert value == {"v": 1, "user": bob.uid, "cookies": {django_settings.SESSION_COOKIE_NAME: value["cookies"]["skyauth"]}}
    assert value["cookies"]["skyauth"] != client.cookies["skyauth"].value
    assert cli(value).get("/api/health").json()["user"]["id"] == bob.uid
    assert Session.objects.get(kind=SessionKind.CLI).user == bob


@BOTH
def test_a_user_copies_the_token_which_is_shown_once(bob, prefix):
    client = browser(bob)
    page = client.get(f"{prefix}/token")
    nonce = re.search(r'name="nonce" value="([^"]+)"', page.content.decode())[1]
    csrf = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.content.decode())[1]
    first, again = [client.post(f"{prefix}/token", {"nonce": nonce, "csrfmiddlewaretoken": csrf}) for _ in range(2)]
    assert cli(read(token_on(first))).get("/api/health").json()["user"]["id"] == bob.uid
    assert first["Cache-Control"] == "no-store"
    assert "localhost" not in first["Content-Security-Policy"]
    assert "hand-over.js" not in first.content.decode()
    assert again.status_code == 409
    assert "token-box" not in again.content.decode()
    assert Session.objects.filter(kind=SessionKind.CLI).count() == 1


def test_a_form_for_one_port_does_not_work_for_another(bob):
    client = browser(bob)
    page = client.get("/token?local_port=8000").content.decode()
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]+)">', page))
    assert client.post("/token?local_port=9999", fields).status_code == 409
    assert client.post("/token", fields).status_code == 409
    assert token_on(client.post("/token?local_port=8000", fields))


def test_promise_37_the_token_goes_to_the_port_on_this_computer_and_nowhere_else(bob):
    page = consent(browser(bob), "/token?local_port=8123")
    policy = page["Content-Security-Policy"]
    [connect] = [part.strip() for part in policy.split(";") if part.strip().startswith("connect-src")]
    assert connect == "connect-src 'self' http://localhost:8123"
    assert 'data-port="8123"' in page.content.decode()
    assert "<script>" not in page.content.decode()
    assert cli(read(token_on(page))).get("/api/health").json()["user"]["id"] == bob.uid


@pytest.mark.parametrize(
    "port",
    [
        "",
        "80",
        "1023",
        "65536",
        "99999",
        "123456",
        "8000.evil.example",
        "8000@evil.example",
        "-8000",
        "+8000",
        "8000 ",
        "8e3",
        "\uff18000",
    ],
)
def test_promise_37_an_invalid_port_is_an_error_page_and_creates_nothing(bob, port):
    client = browser(bob)
    page = client.get("/token", {"local_port": port})
    client.cookies["skyauth-csrf"] = "c" * 32
    sent = client.post(f"/token?{page.wsgi_request.META['QUERY_STRING']}", {"csrfmiddlewaretoken": "c" * 32})
    assert (page.status_code, sent.status_code) == (422, 422)
    assert "not a number from 1024 to 65535" in page.content.decode()
    assert not Session.objects.exclude(user=bob, kind=SessionKind.BROWSER).exists()


@pytest.mark.parametrize("port", ["1024", "65535"])
def test_the_lowest_and_the_highest_port_are_accepted(bob, port):
    assert token_on(consent(browser(bob), f"/token?local_port={port}"))


@pytest.mark.parametrize("address", [ADDRESS, "/token", "/token?local_port=8000"])
def test_promise_37_opening_a_page_grants_nothing(bob, address):
    client = browser(bob)
    page = client.get(address)
    client.head(address)
    assert page.status_code == 200
    assert "token-box" not in page.content.decode()
    assert not CliAuthorization.objects.exists()
    assert not Session.objects.filter(kind=SessionKind.CLI).exists()
    assert not Entry.objects.filter(event__startswith="cli.").exists()
    assert poll().status_code == 404


@pytest.mark.parametrize("address", [ADDRESS, "/token", "/token?local_port=8000"])
@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
def test_promise_37_a_page_of_another_site_cannot_authorize(bob, address, headers):
    assert consent(browser(bob), address, **headers).status_code == 403
    assert not CliAuthorization.objects.exists()
    assert not Session.objects.filter(kind=SessionKind.CLI).exists()


@pytest.mark.parametrize("address", [ADDRESS, "/token", "/token?local_port=8000"])
def test_promise_37_nothing_is_authorized_without_the_form_of_the_page(bob, address):
    assert browser(bob).post(address).status_code == 403
    assert not CliAuthorization.objects.exists()
    assert not Session.objects.filter(kind=SessionKind.CLI).exists()


@pytest.mark.parametrize("address", [ADDRESS, "/token", "/token?local_port=8000", "/token?local_port=1"])
def test_promise_37_these_pages_are_not_framed_and_not_cached(bob, address):
    page = browser(bob).get(address)
    assert page["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in page["Content-Security-Policy"]
    assert page["Cache-Control"] == "no-store"
    assert page["Referrer-Policy"] == "same-origin"
    assert not [name for name in page.headers if name.lower().startswith("access-control-")]


def test_promise_38_a_code_works_once(bob):
    consent(browser(bob), ADDRESS)
    assert [poll().status_code for _ in range(3)] == [200, 404, 404]
    assert Session.objects.filter(kind=SessionKind.CLI).count() == 1


@pytest.mark.parametrize("method", [Method.SESSION, Method.PROXY])
def test_promise_38_a_code_that_is_redeemed_again_is_recorded(bob, method):
    cli_login.authorize(actor=principal(bob, method), challenge=CHALLENGE, cookies={"_proxy": "x"})
    assert poll_from("192.0.2.1").status_code == 200
    assert not Entry.objects.filter(event="sign-in.refused").exists()
    assert CliAuthorization.objects.values("session_auth_hash", "encrypted_cookies").get() == {
        "session_auth_hash": "",
        "encrypted_cookies": "",
    }
    assert [poll_from("198.51.100.7").status_code for _ in range(3)] == [404] * 3
    entry = Entry.objects.get(event="sign-in.refused")
    assert (entry.actor, entry.method, entry.peer) == (bob.username, "cli", "198.51.100.7")
    assert entry.reason == "this CLI login was already redeemed"
    CliAuthorization.objects.update(expires_at=timezone.now())
    poll_from("198.51.100.8")
    assert Entry.objects.filter(event="sign-in.refused").count() == 1, "an expired code is nobody's"


@pytest.mark.parametrize("second", ["alice", "bob"])
def test_promise_38_a_redeemed_code_grants_nothing_until_somebody_authorizes_it_again(alice, bob, second):
    consent(browser(bob), ADDRESS)
    assert [poll().status_code for _ in range(2)] == [200, 404]
    assert consent(browser({"alice": alice, "bob": bob}[second]), ADDRESS).status_code == 200, "as on SkyPilot's server"
    assert [poll().status_code for _ in range(2)] == [200, 404]


def test_a_user_has_a_limited_number_of_cli_sessions_and_the_one_unused_for_the_longest_ends(alice, bob, monkeypatch):
    monkeypatch.setattr(sessions, "MAX_CLI_SESSIONS", 3)
    client = browser(bob)
    keys = []
    for _ in range(3):
        _, row = begin_cli_session(actor=principal(bob), address="192.0.2.1", agent="")
        keys.append(row.pk)
    begin_cli_session(actor=principal(alice), address="192.0.2.1", agent="")
    Session.objects.filter(pk=keys[0]).update(last_used_at=timezone.now() + timedelta(seconds=9))
    keys.append(begin_cli_session(actor=principal(bob), address="192.0.2.1", agent="")[1].pk)
    assert set(bob.sessions.filter(kind=SessionKind.CLI).values_list("pk", flat=True)) == {keys[0], keys[2], keys[3]}
    assert alice.sessions.count() == 1
    assert client.get(ADDRESS).status_code == 200, "browser sessions are not counted"
    ended, begun = Entry.objects.filter(event__in=["session.ended", "cli.signed-in"], target=bob.username).order_by("-pk")[:2][
        ::-1
    ]
    assert (begun.event, ended.event, ended.data) == (
        "cli.signed-in",
        "session.ended",
        {"kinds": ["cli"], "number": 1, "limit": 3},
    )


@pytest.mark.usefixtures("separate_connections")
def test_parallel_cli_logins_do_not_exceed_the_limit(monkeypatch):
    monkeypatch.setattr(sessions, "MAX_CLI_SESSIONS", 2)
    bob = UserFactory(username="bob@example.com")
    verifiers = [f"{number:043}" for number in range(6)]
    for verifier in verifiers:
        challenge = base64.urlsafe_b64encode(sha256(verifier.encode()).digest()).decode().rstrip("=")
        cli_login.authorize(actor=principal(bob), challenge=challenge, cookies={})
    result = at_once(
        *[lambda verifier=verifier: cli_login.redeem(verifier=verifier, client="192.0.2.1", agent="") for verifier in verifiers]
    )
    assert [one for one in result if one is None or isinstance(one, Exception)] == []
    assert Session.objects.filter(kind=SessionKind.CLI).count() == 2


def test_promise_38_a_code_is_valid_for_five_minutes(bob):
    assert timedelta(minutes=10) >= cli_login.LIFETIME
    consent(browser(bob), ADDRESS)
    left = CliAuthorization.objects.get().expires_at - timezone.now()
    assert cli_login.LIFETIME - timedelta(seconds=30) < left <= cli_login.LIFETIME
    CliAuthorization.objects.update(expires_at=timezone.now())
    assert poll().status_code == 404
    assert not Session.objects.filter(kind=SessionKind.CLI).exists()


@pytest.mark.parametrize("verifier", [CHALLENGE, VERIFIER[1:], VERIFIER + "v", "w" * 43, "v" * 200, "é" * 43, "v" * 42 + "\0"])
def test_promise_38_a_code_needs_the_verifier_of_the_same_cli(bob, verifier):
    consent(browser(bob), ADDRESS)
    assert (poll(verifier).status_code, poll(verifier).json()) == (404, {"detail": "Session not found"})
    assert poll().status_code == 200


@pytest.mark.parametrize("verifier", ["x" * 43, "x"])
def test_promise_38_an_unknown_code_costs_one_query_at_most(db, verifier):
    poll(verifier)  # the first poll stores the client's address
    with CaptureQueriesContext(connection) as queries:
        answers = {poll(verifier).status_code for _ in range(30)}
    assert answers == {404}
    assert len(queries) == (30 if len(verifier) == 43 else 0)


def test_promise_38_a_user_has_a_limited_number_of_codes_and_the_oldest_is_removed(bob, alice):
    codes = [f"{number:043}" for number in range(cli_login.MAX_PENDING + 2)]
    cli_login.authorize(actor=principal(alice), challenge=CHALLENGE, cookies={})
    for code in codes:
        cli_login.authorize(actor=principal(bob), challenge=code, cookies={})
    waiting = set(CliAuthorization.objects.filter(user=bob).values_list("challenge", flat=True))
    assert waiting == set(codes[2:])
    assert CliAuthorization.objects.filter(user=alice).exists()


def test_expired_codes_are_deleted_when_the_next_one_is_authorized(bob, alice):
    cli_login.authorize(actor=principal(alice), challenge="a" * 43, cookies={})
    CliAuthorization.objects.update(expires_at=timezone.now())
    cli_login.authorize(actor=principal(bob), challenge=CHALLENGE, cookies={})
    assert CliAuthorization.objects.get().user == bob


def test_authorizing_again_is_no_error_and_still_gives_one_session(bob):
    client = browser(bob)
    assert [consent(client, ADDRESS).status_code for _ in range(2)] == [200, 200]
    assert [poll().status_code for _ in range(2)] == [200, 404]


def test_a_login_that_another_user_has_authorized_cannot_be_taken_over(alice, bob):
    consent(browser(bob), ADDRESS)
    page = consent(browser(alice), ADDRESS)
    answer = authorize(browser(alice), {"code_challenge": CHALLENGE})
    assert (page.status_code, answer.status_code) == (409, 409)
    assert read(poll().json()["token"])["user"] == bob.uid


def _disabled(user: User) -> None:
    user.is_active = False
    user.save(update_fields=["is_active"])


def _password_changed(user: User) -> None:
    user.set_password("another correct horse")
    user.save(update_fields=["password"])


def _deleted(user: User) -> None:
    user.delete()


def _signed_out_everywhere(user: User) -> None:
    end_sessions(actor=principal(user), user=user)


@pytest.mark.parametrize("happens", [_disabled, _password_changed, _deleted, _signed_out_everywhere])
def test_promise_38_a_change_to_the_user_meanwhile_prevents_the_session(bob, happens):
    consent(browser(bob), ADDRESS)
    happens(bob)
    assert poll().status_code == 404
    assert not Session.objects.filter(kind=SessionKind.CLI).exists()


@pytest.mark.usefixtures("separate_connections")
def test_promise_38_of_many_concurrent_polls_one_gets_the_credentials():
    bob = UserFactory(username="bob@example.com")
    cli_login.authorize(actor=principal(bob), challenge=CHALLENGE, cookies={})
    result = at_once(*[lambda: cli_login.redeem(verifier=VERIFIER, client="192.0.2.1", agent="")] * 6)
    assert [one for one in result if isinstance(one, Exception)] == []
    assert len([one for one in result if one is not None]) == 1
    assert Session.objects.filter(kind=SessionKind.CLI).count() == 1


@pytest.mark.usefixtures("separate_connections")
def test_of_two_users_who_authorize_the_same_login_at_once_one_succeeds():
    people = [UserFactory() for _ in range(4)]
    results = at_once(
        *[lambda one=one: cli_login.authorize(actor=principal(one), challenge=CHALLENGE, cookies={}) for one in people]
    )
    assert sorted(type(result).__name__ for result in results) == ["Conflict"] * 3 + ["NoneType"]
    assert CliAuthorization.objects.count() == 1


def test_promise_38_the_database_contains_no_usable_credential(bob, settings):
    """Neither before the CLI redeems it nor afterwards, and no cookie of the proxy."""
    actor = principal(bob, Method.PROXY)
    cli_login.authorize(actor=actor, challenge=CHALLENGE, cookies={"_oauth2_proxy": "its-secret", "skyauth": "ours"})
    row = CliAuthorization.objects.values().get()
    assert "its-secret" not in str(row)
    assert "oauth2" not in str(row)
    assert cli_login._decrypted("b" * 43, row["encrypted_cookies"]) is None  # of no other code
    settings.SECRET_KEY = "another"
    assert cli_login._decrypted(CHALLENGE, row["encrypted_cookies"]) is None


def test_behind_a_proxy_the_cli_gets_its_cookies_and_not_ours(bob):
    cookies = {"_oauth2_proxy": "its|secret=", "skyauth": "ours", "skyauth-csrf": "ours too"}
    cli_login.authorize(actor=principal(bob, Method.PROXY), challenge=CHALLENGE, cookies=cookies)
    assert read(poll().json()["token"]) == {"v": 1, "user": bob.uid, "cookies": {"_oauth2_proxy": "its|secret="}}
    assert not Session.objects.filter(kind=SessionKind.CLI).exists()
    assert list(Entry.objects.order_by("id").values_list("event", flat=True)) == ["cli.authorized", "cli.signed-in"]


def test_behind_a_proxy_the_page_grants_its_cookies(bob):
    actor = principal(bob, Method.PROXY)
    nonce = cli_login.issue_nonce(actor, None)
    credentials = cli_login.grant_now(actor=actor, cookies={"_proxy": "x", "skyauth": "y"}, port=None, nonce=nonce, agent="")
    assert dict(credentials.cookies) == {"_proxy": "x"}
    assert "_proxy" not in repr(credentials)


def test_promise_38_cookies_that_cannot_be_decrypted_are_not_granted(bob, settings):
    cli_login.authorize(actor=principal(bob, Method.PROXY), challenge=CHALLENGE, cookies={"_proxy": "x"})
    settings.SECRET_KEY = "another"
    bob.refresh_from_db()
    CliAuthorization.objects.update(session_auth_hash=bob.get_session_auth_hash())
    assert poll().status_code == 404
    assert not CliAuthorization.objects.exists()


def test_behind_a_proxy_without_cookies_there_is_nothing_to_grant(bob):
    actor = principal(bob, Method.PROXY)
    nonce = cli_login.issue_nonce(actor, None)
    with pytest.raises(Forbidden, match="without a cookie"):
        cli_login.grant_now(actor=actor, cookies={"skyauth": "ours"}, port=None, nonce=nonce, agent="")
    with pytest.raises(Forbidden, match="without a cookie"):
        cli_login.authorize(actor=actor, challenge=CHALLENGE, cookies={})
    assert not CliAuthorization.objects.exists()


def test_a_disabled_user_authorizes_nothing(bob):
    actor = principal(bob)
    _disabled(bob)
    with pytest.raises(NotFound):
        cli_login.authorize(actor=actor, challenge=CHALLENGE, cookies={})
    with pytest.raises(Invalid):
        cli_login.authorize(actor=actor, challenge="short", cookies={})


def test_promise_39_the_page_names_the_client_the_user_and_the_risk(bob):
    page = browser(bob).get(ADDRESS, headers={"User-Agent": "Mozilla/5.0 <script>alert(1)</script>"}).content.decode()
    assert f'id="compare">{CHALLENGE[-8:]}<' in page
    assert "bob@example.com" in page
    assert "127.0.0.1" in page
    assert "Mozilla/5.0 &lt;script&gt;" in page
    assert "<script>alert" not in page
    assert "Continue only if you have just started" in page
    assert "If somebody sent you this URL, close this page" in " ".join(page.split())
    assert "localhost:8123" in browser(bob).get("/token?local_port=8123").content.decode()


def test_promise_39_the_authorization_and_the_session_are_recorded(bob):
    consent(browser(bob), ADDRESS)
    Client().get("/api/v1/auth/token", {"code_verifier": VERIFIER}, headers={"User-Agent": "python-requests/2.32"})
    authorized, begun = Entry.objects.filter(event__startswith="cli.").order_by("id")
    assert (authorized.event, authorized.actor, authorized.method) == ("cli.authorized", bob.username, "session")
    assert authorized.data == {"code": CHALLENGE[-8:]}
    assert (begun.event, begun.actor, begun.method) == ("cli.signed-in", bob.username, "cli")
    assert begun.data == {"address": "127.0.0.1", "agent": "python-requests/2.32"}


def test_promise_41_an_anonymous_user_signs_in_first_and_returns(db):
    for address in (ADDRESS, "/token?local_port=8000"):
        answer = browser().get(address)
        assert answer.status_code == 302
        assert answer["Location"] == f"/sign-in?next={address.replace('/', '%2F').replace('?', '%3F').replace('=', '%3D')}"
        assert answer["Cache-Control"] == "no-store"


@pytest.mark.parametrize("challenge", ["", "short", CHALLENGE + "x", CHALLENGE[:-1] + "+", CHALLENGE[:-1] + "\n"])
def test_an_incomplete_address_is_an_error_page(bob, challenge):
    page = browser(bob).get("/auth/authorize", {"code_challenge": challenge} if challenge else {})
    assert page.status_code == 400
    assert "This URL is incomplete" in page.content.decode()


@pytest.mark.parametrize("address", [ADDRESS, "/token", "/token?local_port=8000"])
def test_a_cli_session_a_token_and_the_shared_password_authorize_no_login(bob, pipeline, settings, address):
    credentials = cli_login.grant_now(
        actor=principal(bob), cookies={}, port=None, nonce=cli_login.issue_nonce(principal(bob), None), agent=""
    )
    settings.AUTH_STRING = f"team:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}"
    for caller in (
        cli({"cookies": dict(credentials.cookies)}),
        skypilot_client.bearer(make_token(pipeline)[1]),
        skypilot_client.basic("team"),
    ):
        page = caller.get(address)
        assert page.status_code == 403, address
        assert "CLI login failed" in page.content.decode()
        assert caller.post("/api/v1/auth/authorize", {"code_challenge": CHALLENGE}).status_code in {401, 403}
    assert not CliAuthorization.objects.exists()


def test_a_user_with_basic_authorizes_a_login(bob):
    sky = skypilot_client.basic(bob.username)
    assert sky.post("/api/v1/auth/authorize", {"code_challenge": CHALLENGE}).json() == {"status": "authorized"}
    value = read(poll().json()["token"])
    assert cli(value).get("/api/health").json()["user"]["name"] == bob.username


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "Invalid JSON body"),
        (b"{", "Invalid JSON body"),
        (b"\xff", "Invalid JSON body"),
        (b"[" * 100_000, "Invalid JSON body"),
        ([], "Invalid JSON body"),
        (7, "Invalid JSON body"),
        ({}, "code_challenge is required"),
        ({"code_challenge": ""}, "code_challenge is required"),
        ({"code_challenge": None}, "code_challenge is required"),
        ({"code_challenge": 7}, "Invalid code_challenge format"),
        ({"code_challenge": [CHALLENGE]}, "Invalid code_challenge format"),
        ({"code_challenge": CHALLENGE + "="}, "Invalid code_challenge format"),
    ],
)
def test_an_invalid_body_gets_skypilots_messages(as_bob, body, detail):
    answer = as_bob.post("/api/v1/auth/authorize", body, content_type="application/json")
    assert (answer.status_code, answer.json()) == (400, {"detail": detail})


@BOTH
def test_pages_of_the_same_origin_authorize_with_json(as_vera, vera, prefix):
    answer = as_vera.post(f"{prefix}/api/v1/auth/authorize", {"code_challenge": CHALLENGE, "more": 1}, origin="http://testserver")
    assert (answer.status_code, answer.json(), answer["Cache-Control"]) == (200, {"status": "authorized"}, "no-store")
    assert read(poll().json()["token"])["user"] == vera.uid


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "same-site"}])
def test_promise_36_pages_of_other_origins_authorize_nothing_with_json(as_bob, headers):
    assert as_bob.post("/api/v1/auth/authorize", {"code_challenge": CHALLENGE}, **headers).status_code == 403
    assert as_bob.post("/api/v1/auth/authorize", {"code_challenge": CHALLENGE}, content_type="text/plain").status_code == 400
    assert not CliAuthorization.objects.exists()


def test_an_anonymous_caller_authorizes_nothing(db):
    assert skypilot_client.nobody().post("/api/v1/auth/authorize", {"code_challenge": CHALLENGE}).status_code == 401


@BOTH
def test_other_methods_get_405_with_the_allowed_ones(as_vera, prefix):
    for path, method, allowed in (("authorize", "GET", "POST"), ("token", "POST", "GET"), ("token", "HEAD", "GET")):
        answer = as_vera.request(method, f"{prefix}/api/v1/auth/{path}")
        assert (answer.status_code, answer["Allow"]) == (405, allowed)


def test_the_verifier_is_required(db):
    for query in ({}, {"code_verifier": ""}):
        answer = Client().get("/api/v1/auth/token", query)
        assert (answer.status_code, answer.json()) == (400, {"detail": "code_verifier is required"})


def test_a_poll_with_a_bad_credential_gets_the_same_404(bob):
    for sky in (skypilot_client.basic("bob@example.com", "wrong"), skypilot_client.bearer("sky_nonsense")):
        assert sky.probe(f"/api/v1/auth/token?code_verifier={VERIFIER}").status_code == 404


@pytest.fixture(autouse=True)
def _nothing_heard():
    cli_login.login_requests.__init__()


def poll_from(address, verifier=VERIFIER):
    client = Client(raise_request_exception=False, REMOTE_ADDR=address, headers={"User-Agent": "python-requests/2.32"})
    return client.get("/api/v1/auth/token", {"code_verifier": verifier})


def test_promise_39_the_page_shows_the_clients_address_and_warns_if_it_is_not_the_users(bob):
    client = browser(bob)
    first = client.get(ADDRESS)
    assert "Waiting for the terminal" in first.content.decode(), "the sky CLI opens the page a second before it polls"
    assert first["Refresh"] == f"2; url=?code_challenge={CHALLENGE}&waited"
    later = client.get(f"{ADDRESS}&waited")
    assert "No terminal has asked for this login." in later.content.decode()
    assert "Refresh" not in later
    assert poll_from("127.0.0.1").status_code == 404
    assert "Refresh" not in client.get(ADDRESS)
    page = client.get(ADDRESS).content.decode()
    assert re.search(r"from 127\.0\.0\.1\s+with python-requests/2\.32", page)
    assert "This is not your address" not in page
    poll_from("198.51.100.7")
    assert "198.51.100.7" not in client.get(ADDRESS).content.decode(), "the first is who began"


def test_promise_39_the_page_names_when_the_request_was_made_and_for_how_long_access_is_granted(bob, settings, time_machine):
    time_machine.move_to("2026-11-24T12:00:00Z", tick=False)
    poll_from("127.0.0.1")
    time_machine.move_to("2026-11-24T12:01:05Z", tick=False)
    settings.CLI_SESSION_DAYS = 7
    for address in (ADDRESS, "/token", "/token?local_port=8000"):
        page = " ".join(browser(bob).get(address).content.decode().split())
        assert "valid for 7 days, until 2026-12-01 12:01 UTC" in page
        assert "2026-11-24 12:01:05 UTC" in page, "when the page was opened"
        assert ("2026-11-24 12:00:00 UTC" in page) is (address == ADDRESS)


def test_promise_39_the_page_warns_of_a_terminal_at_another_address(bob):
    poll_from("198.51.100.7")
    page = browser(bob).get(ADDRESS).content.decode()
    assert "This is not your address (127.0.0.1)." in page


@pytest.mark.parametrize(
    "sign", [{"Sec-Fetch-Site": "cross-site"}, {"Accept-Language": "en"}, {"Referer": "http://evil.example/"}]
)
def test_promise_39_a_page_cannot_make_the_users_browser_poll_like_a_terminal(bob, sign):
    """An image with that address, on a page of an attacker, would look like a request from the user's own terminal."""
    client = browser(bob)
    path = f"/api/v1/auth/token?code_verifier={VERIFIER}"
    assert client.get(path, headers=sign).status_code == 404
    assert "No terminal has asked for this login." in client.get(f"{ADDRESS}&waited").content.decode()
    consent(client, f"{ADDRESS}&waited")
    assert client.get(path, headers=sign).status_code == 404
    assert poll().status_code == 200, "and it took nothing away from the terminal"


def test_anonymous_clients_cannot_fill_the_table_of_login_requests(db, monkeypatch):
    monkeypatch.setattr(cli_login, "MAX_LOGIN_REQUESTS", 22)
    monkeypatch.setattr(cli_login, "login_requests", cli_login.LoginRequestLog())
    for number in range(cli_login.MAX_PENDING + 5):
        poll_from("198.51.100.7", f"{number:043}")
    assert CliLoginRequest.objects.count() == cli_login.MAX_PENDING
    poll_from("198.51.100.8")
    assert CliLoginRequest.objects.count() == cli_login.MAX_PENDING + 1
    for number in range(5):
        poll_from(f"192.0.2.{number}", f"x{number:042}")
    assert CliLoginRequest.objects.count() == 22
    assert len(cli_login.login_requests._seen) == 22
    CliLoginRequest.objects.update(at=timezone.now() - cli_login.LIFETIME)
    poll_from("192.0.2.99", "y" * 43)
    assert CliLoginRequest.objects.count() == 1


def test_a_login_request_that_cannot_be_stored_is_no_error(db, monkeypatch):
    def fails(*_, **__):
        raise OperationalError("locked")

    monkeypatch.setattr(CliLoginRequest.objects, "bulk_create", fails)
    assert poll_from("198.51.100.7").status_code == 404


def test_polling_reads_no_credential_and_counts_no_failure(bob):
    consent(browser(bob), ADDRESS)
    for _ in range(8):
        assert (
            skypilot_client.basic(bob.username, "wrong").probe("/api/v1/auth/token?code_verifier=" + "w" * 43).status_code == 404
        )
    assert skypilot_client.basic(bob.username).get("/users/role").status_code == 200
    assert skypilot_client.bearer("sky_nonsense").probe(f"/api/v1/auth/token?code_verifier={VERIFIER}").status_code == 200


def test_while_the_database_is_busy_polling_goes_on(bob, monkeypatch):
    consent(browser(bob), ADDRESS)

    def busy(**_):
        raise OperationalError("database is locked")

    with monkeypatch.context() as patched:
        patched.setattr(cli_login, "redeem", busy)
        assert poll().status_code == 404
    assert poll().status_code == 200


def test_the_cookies_of_an_authentication_proxy_are_granted_as_the_browser_sent_them(bob):
    request = RequestFactory().get("/token", headers={"Cookie": 'a="quoted value"; b=x%20y=; empty=; odd'})
    assert _cookies(request) == {"a": '"quoted value"', "b": "x%20y=", "empty": ""}
