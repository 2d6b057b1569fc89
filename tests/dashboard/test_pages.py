"""What all pages share: access, denials, errors of services, links and headers."""

import base64
import re
from html import unescape
from urllib.parse import urljoin

import pytest
from django.test import Client
from django.urls import get_resolver, reverse

from accounts.models import SessionKind
from accounts.services import groups
from audit.models import Entry
from authn.session_store import SessionStore
from core.errors import Conflict
from dashboard.base import Page
from dashboard.navigation import SECTIONS
from tests.dashboard.forms import fields_of
from tests.factories import PASSWORD, ServiceAccountFactory, UserFactory, make_token, principal

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}


def pages():
    """Yield every page of the dashboard: its URL name, its view, and the URL converters."""
    for pattern in get_resolver().url_patterns:
        for inner in getattr(pattern, "url_patterns", []):
            view = getattr(inner.callback, "view_class", None)
            if getattr(pattern, "app_name", "") == "dashboard" and isinstance(view, type) and issubclass(view, Page):
                yield inner.name, view, inner.pattern.converters


PAGES = [pytest.param(*page, id=page[0]) for page in pages()]


def address(name, converters, user):
    """Return the URL of a page about a user, a service account of theirs, its token, or something else."""
    there = {
        "uid": lambda: user.uid,
        "account": lambda: account_of(user).uid,
        "key": lambda: make_token(account_of(user))[0].key_id,
        "kind": lambda: "csv",
        "reference": lambda: "nosuchentry",
        "pk": lambda: 1,  # there may be one or not
        "name": lambda: "open" if name == "pack" else "user",
        "job": lambda: "0123456789abcdef",  # there is none
    }
    return reverse(f"dashboard:{name}", kwargs={key: there[key]() for key in converters})


def account_of(user):
    return user.service_accounts.first() or ServiceAccountFactory(owner=user)


def words(response):
    """Return the text of a page."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", response.text)).split())


def test_the_root_redirects_to_home(client):
    assert client.get("/")["Location"] == client.get("/skyauth")["Location"] == "/skyauth/"


@pytest.mark.parametrize(("name", "view", "converters"), PAGES)
def test_anonymous_users_are_redirected_to_sign_in_with_a_return_url(client, bob, name, view, converters):
    path = address(name, converters, bob)
    response = client.get(f"{path}?a=b%20c")
    assert (response.status_code, response["Location"]) == (302, f"/sign-in?next={path.replace('/', '%2F')}%3Fa%3Db%2520c")
    unsaved = client.post(path)["Location"]
    assert "Your session has ended, so the form that you sent was not saved." in client.get(unsaved).content.decode()
    assert "Your session has ended" not in client.get("/sign-in").content.decode()
    assert client.get(path, headers=HTMX)["HX-Redirect"] == "/sign-in"


@pytest.mark.parametrize(("name", "view", "converters"), PAGES)
def test_a_role_opens_exactly_the_pages_that_its_permissions_allow(visit, alice, bob, vera, name, view, converters):
    """Every page, every role, GET and POST: without a permission the response is 403, whatever is sent, and is recorded."""
    target = UserFactory()
    path = address(name, converters, target)
    for user in (alice, bob, vera):
        permitted = not view.needs or any(need in user.permissions for need in view.needs)
        for method in ("get", "post"):
            response = getattr(visit(user), method)(path)
            assert (response.status_code == 403) != permitted, (user.username, method, response.status_code)
            if not permitted:
                assert "Not allowed" in response.text
                last = Entry.objects.first()
                assert (last.event, last.actor, last.target) == ("request.denied", user.username, f"{method.upper()} {path}")
    assert any(need in alice.permissions for need in view.needs) or not view.needs


def test_the_navigation_shows_exactly_what_the_role_opens(visit, alice, bob, vera):
    for user in (alice, bob, vera):
        shown = re.findall(r'<nav aria-label="Main">(.*?)</nav>', visit(user).get("/skyauth/").text, re.DOTALL)[0]
        offered = set(re.findall(r'<a href="([^"]+)"', shown))
        opened = [section for section in SECTIONS if not section.needs or set(section.needs) & user.permissions]
        expected = {reverse(section.page) for section in opened}
        assert offered == expected
        for path in offered:
            assert visit(user).get(path).status_code == 200


def test_a_service_account_token_cannot_open_the_dashboard(client, pipeline_token):
    response = client.get("/skyauth/", headers={"authorization": f"Bearer {pipeline_token}"})
    assert response.status_code == 403
    assert "for users who sign in with a browser" in response.text


def test_promise_37_a_cli_session_opens_no_page(client, bob):
    from authn import sessions

    key, row = sessions.begin_cli_session(actor=principal(bob), address="192.0.2.1", agent="sky")
    assert row.kind == SessionKind.CLI
    client.cookies["skyauth"] = key
    assert client.get("/skyauth/").status_code == 403
    assert client.get("/skyauth/users").status_code == 403
    assert SessionStore(key).exists(key)


def test_basic_opens_the_dashboard_without_a_sign_out_button(bob):
    pair = base64.b64encode(f"bob@example.com:{PASSWORD}".encode()).decode()
    response = Client(headers={"authorization": f"Basic {pair}"}).get("/skyauth/")
    assert response.status_code == 200
    assert "HTTP Basic" in response.text
    assert "Sign out" not in response.text


@pytest.mark.parametrize("name", [name for name, view, _ in pages() if hasattr(view, "post")])
def test_promise_36_no_form_does_anything_without_a_csrf_token(visit, alice, bob, name):
    browser = visit(alice, enforce_csrf_checks=True)
    converters = next(found for page, _, found in pages() if page == name)
    assert browser.post(address(name, converters, bob), {"role": "viewer", "uid": bob.uid}).status_code == 403
    bob.refresh_from_db()
    assert (bob.role.name, bob.is_active) == ("user", True)


def test_no_page_can_be_framed_or_cached_or_contains_inline_code(visit, alice, bob):
    shown = []
    for name, _, converters in pages():
        response = visit(alice).get(address(name, converters, bob))
        shown += [name] * (response.status_code == 200)
        assert response["X-Frame-Options"] == "DENY"
        assert "no-store" in response["Cache-Control"]
        policy = response["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        if response.streaming:
            continue  # a file
        assert not re.search(r"<style|\sstyle=|<script(?! src=\"/static/)|\son\w+=|hx-on|https?://(?!www\.w3)", response.text), (
            name
        )
    assert len(shown) > 20


def test_a_get_that_fails_is_an_error_page_without_a_redirect_loop(visit, alice, bob, monkeypatch):
    def stale(_):
        raise Conflict("A stored route cannot be read.")

    monkeypatch.setattr("accounts.services.users.get_user", stale)
    response = visit(alice).get(f"/skyauth/users/{bob.uid}")
    assert (response.status_code, "A stored route cannot be read." in response.text) == (409, True)


def test_an_unknown_user_is_a_404_page(visit, vera):
    response = visit(vera).get("/skyauth/users/0123456789abcdef")
    assert response.status_code == 404
    assert "There is no user with the id" in response.text


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example/", "/elsewhere", "/skyauth/../admin/", "/skyauthx"])
def test_promise_41_a_form_returns_only_to_pages_of_the_dashboard(visit, alice, bob, back):
    asked = visit(alice).get("/skyauth/users/role", {"uid": bob.uid, "role": "viewer", "back": back})
    assert fields_of(asked.text)["back"] == ["/skyauth/users"]
    response = visit(alice).post("/skyauth/users/role", {**fields_of(asked.text), "back": back})
    assert response["Location"] == "/skyauth/users"
    asked = visit(alice).get("/skyauth/users/role", {"uid": bob.uid, "role": "user", "back": "/skyauth/users?q=a%20b"})
    assert visit(alice).post("/skyauth/users/role", fields_of(asked.text))["Location"] == "/skyauth/users?q=a%20b"


def test_every_link_that_a_role_sees_opens_for_it(visit, alice, bob, vera):
    """Follow all links from Home as each of them; an account and a token are in the lists."""
    for owner in (alice, bob, vera):
        make_token(ServiceAccountFactory(owner=owner, role=owner.role), days=2)
    for user in (alice, bob, vera):
        browser, todo, done = visit(user), ["/skyauth/"], set()
        while todo:
            path = todo.pop()
            if path in done or not path.startswith("/skyauth"):
                continue
            done.add(path)
            response = browser.get(path)
            assert response.status_code == 200, (user.username, path, response.status_code)
            links = [
                urljoin(path, unescape(link)) for link in re.findall(r'<a\s[^>]*?href="([^"#]+)"', response.getvalue().decode())
            ]
            known = {seen.partition("?")[0] for seen in done}
            todo += [link for link in links if link.partition("?")[0] not in known]
        assert len(done) > 4, "it was walked at all"


LISTS = ["users", "service-accounts", "audit", "access/routes", "access/groups"]


@pytest.mark.parametrize("path", LISTS)
def test_an_unknown_filter_is_named_and_shows_no_rows(visit, alice, pipeline, system, read_write, path):
    groups.create_group_role(actor=system, group="staff", role="user")
    browser = visit(alice)
    assert "<tbody>" in browser.get(f"/skyauth/{path}").text or path == "audit"
    response = browser.get(f"/skyauth/{path}?rol=admin&q=")
    assert re.search(r"Unknown filter: rol\. The filters are: q\b", words(response))
    assert "<tbody>" not in response.text
    assert "alice@example.com created" not in words(response)


@pytest.mark.parametrize("query", ["evnt=user.updated", "event=nonsense", "since=yesterday"])
@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_file_of_entries_with_a_wrong_filter_is_an_error_and_not_an_empty_file(visit, alice, kind, query):
    response = visit(alice).get(f"/skyauth/audit.{kind}?{query}")
    assert response.status_code == 409
    assert query.partition("=")[0] in words(response)
