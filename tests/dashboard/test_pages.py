"""What all pages share: who gets in, what is said to who does not, and how refusals of services are told."""

import base64
import re
from html import unescape
from urllib.parse import urljoin

import pytest
from django.test import Client
from django.urls import get_resolver, reverse

from accounts.models import SessionKind
from audit.models import Entry
from authn.session_store import SessionStore
from core.errors import Conflict
from dashboard.base import Page
from dashboard.navigation import SECTIONS
from tests.factories import PASSWORD, ServiceAccountFactory, UserFactory, make_token, principal

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}


def pages():
    """Return every page of the dashboard: its name, its view, and what it is about."""
    for pattern in get_resolver().url_patterns:
        for inner in getattr(pattern, "url_patterns", []):
            view = getattr(inner.callback, "view_class", None)
            if getattr(pattern, "app_name", "") == "dashboard" and isinstance(view, type) and issubclass(view, Page):
                yield inner.name, view, inner.pattern.converters


PAGES = [pytest.param(*page, id=page[0]) for page in pages()]


def address(name, converters, user):
    """Return the address of a page about a user, a service account of theirs, its token, or something else."""
    there = {
        "uid": lambda: user.uid,
        "account": lambda: account_of(user).uid,
        "key": lambda: make_token(account_of(user))[0].key_id,
        "kind": lambda: "csv",
        "reference": lambda: "nosuchentry",
        "pk": lambda: 1,  # there may be one or not
        "name": lambda: "open" if name == "pack" else "user",
    }
    return reverse(f"dashboard:{name}", kwargs={key: there[key]() for key in converters})


def account_of(user):
    return user.service_accounts.first() or ServiceAccountFactory(owner=user)


def words(answer):
    """Return what is to be read on a page."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


def test_the_root_leads_home(client):
    assert client.get("/")["Location"] == client.get("/skyauth")["Location"] == "/skyauth/"


@pytest.mark.parametrize(("name", "view", "converters"), PAGES)
def test_who_has_not_signed_in_is_sent_to_do_so_and_back(client, bob, name, view, converters):
    path = address(name, converters, bob)
    answer = client.get(f"{path}?a=b%20c")
    assert (answer.status_code, answer["Location"]) == (302, f"/sign-in?next={path.replace('/', '%2F')}%3Fa%3Db%2520c")
    assert client.post(path)["Location"] == "/sign-in"
    assert client.get(path, headers=HTMX)["HX-Redirect"] == "/sign-in"


@pytest.mark.parametrize(("name", "view", "converters"), PAGES)
def test_a_role_opens_exactly_the_pages_for_which_it_holds_a_permission(visit, alice, bob, vera, name, view, converters):
    """Every page, every role, GET and POST: what is not permitted is 403 whatever is sent, and is recorded."""
    target = UserFactory()
    path = address(name, converters, target)
    for user in (alice, bob, vera):
        permitted = not view.needs or any(need in user.permissions for need in view.needs)
        for method in ("get", "post"):
            answer = getattr(visit(user), method)(path)
            assert (answer.status_code == 403) != permitted, (user.username, method, answer.status_code)
            if not permitted:
                assert "Not allowed" in answer.text
                last = Entry.objects.first()
                assert (last.event, last.actor, last.target) == ("request.denied", user.username, f"{method.upper()} {path}")
    assert any(need in alice.permissions for need in view.needs) or not view.needs


def test_the_navigation_offers_what_the_role_opens_and_nothing_else(visit, alice, bob, vera):
    for user in (alice, bob, vera):
        shown = re.findall(r'<nav aria-label="Main">(.*?)</nav>', visit(user).get("/skyauth/").text, re.DOTALL)[0]
        offered = set(re.findall(r'<a href="([^"]+)"', shown))
        opened = [section for section in SECTIONS if not section.needs or set(section.needs) & user.permissions]
        expected = {reverse(section.page) for section in opened}
        assert offered == expected
        for path in offered:
            assert visit(user).get(path).status_code == 200


def test_a_machine_is_told_that_these_pages_are_for_people(client, pipeline_token):
    answer = client.get("/skyauth/", headers={"authorization": f"Bearer {pipeline_token}"})
    assert answer.status_code == 403
    assert "for users who sign in with a browser" in answer.text


def test_promise_37_a_command_line_that_a_person_signed_in_opens_no_page(client, bob):
    from authn import sessions

    key, row = sessions.begin_cli_session(actor=principal(bob), address="192.0.2.1", agent="sky")
    assert row.kind == SessionKind.CLI
    client.cookies["skyauth"] = key
    assert client.get("/skyauth/").status_code == 403
    assert client.get("/skyauth/users").status_code == 403
    assert SessionStore(key).exists(key)


def test_who_comes_with_a_password_in_each_request_gets_in_and_cannot_sign_out_here(bob):
    pair = base64.b64encode(f"bob@example.com:{PASSWORD}".encode()).decode()
    answer = Client(headers={"authorization": f"Basic {pair}"}).get("/skyauth/")
    assert answer.status_code == 200
    assert "HTTP Basic" in answer.text
    assert "Sign out" not in answer.text


@pytest.mark.parametrize("name", [name for name, view, _ in pages() if hasattr(view, "post")])
def test_promise_36_no_form_does_anything_without_proof_from_a_page_of_ours(visit, alice, bob, name):
    browser = visit(alice, enforce_csrf_checks=True)
    converters = next(found for page, _, found in pages() if page == name)
    assert browser.post(address(name, converters, bob), {"role": "viewer", "uid": bob.uid}).status_code == 403
    bob.refresh_from_db()
    assert (bob.role.name, bob.is_active) == ("user", True)


def test_no_page_can_be_framed_kept_or_run_code_of_its_own(visit, alice, bob):
    shown = []
    for name, _, converters in pages():
        answer = visit(alice).get(address(name, converters, bob))
        shown += [name] * (answer.status_code == 200)
        assert answer["X-Frame-Options"] == "DENY"
        assert "no-store" in answer["Cache-Control"]
        policy = answer["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        if answer.streaming:
            continue  # a file
        assert not re.search(r"<style|\sstyle=|<script(?! src=\"/static/)|\son\w+=|hx-on|https?://(?!www\.w3)", answer.text), name
    assert len(shown) > 20


def test_what_cannot_be_shown_is_a_page_that_says_so_and_leads_to_itself_never(visit, alice, bob, monkeypatch):
    def stale(_):
        raise Conflict("A stored route cannot be read.")

    monkeypatch.setattr("accounts.services.users.get_user", stale)
    answer = visit(alice).get(f"/skyauth/users/{bob.uid}")
    assert (answer.status_code, "A stored route cannot be read." in answer.text) == (409, True)


def test_what_is_not_there_is_a_page_that_says_so(visit, vera):
    answer = visit(vera).get("/skyauth/users/0123456789abcdef")
    assert answer.status_code == 404
    assert "There is no user with the id" in answer.text


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example/", "/elsewhere", "/skyauth/../admin/", "/skyauthx"])
def test_promise_41_a_form_leads_back_to_a_page_of_ours_alone(visit, alice, bob, back):
    answer = visit(alice).post(f"/skyauth/users/{bob.uid}/role", {"role": "viewer", "back": back})
    assert answer["Location"] == f"/skyauth/users/{bob.uid}"
    answer = visit(alice).post(f"/skyauth/users/{bob.uid}/role", {"role": "user", "back": "/skyauth/users?q=a%20b"})
    assert answer["Location"] == "/skyauth/users?q=a%20b"


def test_every_link_that_a_role_is_shown_opens_for_it(visit, alice, bob, vera):
    """Walk all of the dashboard as each of them, from Home, along what is shown; a token and an account are there to be met."""
    for owner in (alice, bob, vera):
        make_token(ServiceAccountFactory(owner=owner, role=owner.role), days=2)
    for user in (alice, bob, vera):
        browser, todo, done = visit(user), ["/skyauth/"], set()
        while todo:
            path = todo.pop()
            if path in done or not path.startswith("/skyauth"):
                continue
            done.add(path)
            answer = browser.get(path)
            assert answer.status_code == 200, (user.username, path, answer.status_code)
            links = [
                urljoin(path, unescape(link)) for link in re.findall(r'<a\s[^>]*?href="([^"#]+)"', answer.getvalue().decode())
            ]
            known = {seen.partition("?")[0] for seen in done}
            todo += [link for link in links if link.partition("?")[0] not in known]
        assert len(done) > 4, "it was walked at all"
