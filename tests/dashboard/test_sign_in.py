"""The sign-in page: sign-in, redirects, failed attempts, and what the page discloses."""

import base64
import re

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import SignIn, User
from audit.models import Entry
from tests.adminsite.browsing import form_of
from tests.evil_redirects import EVIL_REDIRECTS
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db

PAGE = "/sign-in"
HOME = "/skyauth/"


def sign_in(client, username="vera@example.com", password=PASSWORD, **fields):
    return client.post(PAGE, {"username": username, "password": password, **fields})


def fields_of(response):
    return form_of(response, "sign-in")


def csrf_token(response):
    """Return the CSRF token of a page's form."""
    return re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', response.text)[1]


def test_the_pages_have_fixed_urls():
    assert (reverse("dashboard:sign-in"), reverse("dashboard:sign-out")) == (PAGE, "/sign-out")


def test_a_user_signs_in_and_returns_to_the_requested_page(client, vera):
    response = client.get(PAGE, {"next": "/things/7?a=b&c=d%20e"})
    assert response.status_code == 200
    fields = fields_of(response)
    assert fields["next"] == ["/things/7?a=b&c=d%20e"]
    response = sign_in(client, next=fields["next"][0])
    assert (response.status_code, response["Location"]) == (302, "/things/7?a=b&c=d%20e")
    assert Entry.objects.get(event="sign-in.succeeded").actor == "vera@example.com"


def test_without_a_return_url_sign_in_redirects_to_home(client, vera):
    response = client.post(PAGE, {"username": "Vera@Example.com", "password": PASSWORD}, follow=True)
    assert response.redirect_chain == [(HOME, 302)]
    assert "vera@example.com" in response.text
    assert "Sign out" in response.text
    response = client.get(PAGE)
    assert "the role viewer" in response.text
    assert f'href="{HOME}"' in response.text


def test_a_signed_in_user_is_redirected_to_next(client, vera):
    sign_in(client)
    response = client.get(PAGE, {"next": "/things"})
    assert (response.status_code, response["Location"]) == (302, "/things")


@pytest.mark.parametrize("target", EVIL_REDIRECTS)
def test_promise_41_next_never_redirects_to_another_host(client, vera, target):
    assert fields_of(client.get(PAGE, {"next": target}))["next"] == [""]
    response = sign_in(client, next=target)
    assert (response.status_code, response["Location"]) == (302, HOME)
    assert client.get(PAGE, {"next": target}).status_code == 200
    response = client.post("/sign-out", {"next": target})
    assert (response.status_code, response["Location"]) == (302, PAGE)


def test_promise_19_every_failed_sign_in_gets_the_same_response(client, vera, settings):
    UserFactory(username="sso@example.com", sign_in=SignIn.SSO)
    UserFactory(username="gone@example.com", is_active=False)
    settings.AUTH_FAILURE_LIMIT = settings.AXES_FAILURE_LIMIT = 2
    tries = [
        ("vera@example.com", "wrong"),
        ("nobody@example.com", PASSWORD),
        ("sso@example.com", PASSWORD),
        ("gone@example.com", PASSWORD),
        ("not a name", PASSWORD),
        ("vera@example.com", "wrong"),
        ("vera@example.com", PASSWORD),  # must wait
    ]
    pages = []
    for name, password in tries:
        response = sign_in(client, name, password)
        assert response.status_code == 200
        assert not client.session.get("_auth_user_id")
        pages.append(re.sub(r'(value|content)="[^"]*"', "", response.text))
        assert password not in response.text or password == "wrong"
    assert len(set(pages)) == 1
    assert "Incorrect username or password" in pages[0]
    reasons = set(Entry.objects.filter(event="sign-in.refused").values_list("reason", flat=True))
    assert {"wrong password", "unknown user", "disabled"} <= reasons


def test_a_lockout_does_not_block_another_address(vera, settings):
    settings.AXES_FAILURE_LIMIT = 2
    here, there = Client(REMOTE_ADDR="192.0.2.1"), Client(REMOTE_ADDR="192.0.2.2")
    for _ in range(3):
        sign_in(here, password="wrong")
    assert sign_in(here).status_code == 200
    assert sign_in(there).status_code == 302


@pytest.mark.parametrize("missing", ["username", "password"])
def test_an_empty_field_is_named(client, missing):
    response = client.post(PAGE, {"username": "vera@example.com", "password": "x", missing: ""})
    assert f"{missing.capitalize()}: This field is required." in response.text


@pytest.mark.parametrize("basic", [True, False])
def test_sign_in_works_with_and_without_basic(client, vera, settings, basic):
    settings.AUTH_BASIC = basic
    assert sign_in(client).status_code == 302


def test_input_is_escaped(client):
    response = sign_in(client, '"><script>alert(1)</script>', next='/a?"><script>')
    assert "<script" not in response.text
    assert fields_of(response)["username"] == ['"><script>alert(1)</script>']


def test_promise_36_sign_in_and_sign_out_require_a_csrf_token(vera):
    browser = Client(enforce_csrf_checks=True)
    assert sign_in(browser).status_code == 403
    assert sign_in(browser, csrfmiddlewaretoken=csrf_token(browser.get(PAGE))).status_code == 302
    assert browser.post("/sign-out").status_code == 403
    assert browser.get("/sign-out").status_code == 405
    assert browser.post("/sign-out", {"csrfmiddlewaretoken": csrf_token(browser.get(PAGE))}).status_code == 302


def test_promise_40_sign_in_starts_a_new_session_and_sign_out_ends_it(client, vera):
    client.get(PAGE)
    sign_in(client)
    first = client.session.session_key
    sign_in(client)
    second = client.session.session_key
    assert first
    assert first != second
    old = Client()
    old.cookies["skyauth"] = second
    assert "vera@example.com" in old.get(PAGE).text
    client.post("/sign-out")
    assert "vera@example.com" not in old.get(PAGE).text


def test_users_authenticated_by_basic_cannot_sign_out(bob):
    pair = base64.b64encode(f"bob@example.com:{PASSWORD}".encode()).decode()
    response = Client(headers={"authorization": f"Basic {pair}"}).get(PAGE)
    assert "bob@example.com" in response.text
    assert "<form" not in response.text
    assert "through a proxy" in response.text


def test_the_pages_load_only_own_files_and_are_not_cached(client, vera):
    for response in (client.get(PAGE), client.post(PAGE, {}), (sign_in(client), client.get(PAGE))[1]):
        policy = response["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "style-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "no-store" in response["Cache-Control"]
        assert not re.search(r"<style|style=|<script|\son\w+=|https?://", response.text)


def test_a_session_opens_only_what_the_role_allows(client, vera):
    sign_in(client)
    assert client.get("/admin/").status_code == 403
    assert client.get("/api/v1/users").status_code == 200
    assert client.get("/api/v1/audit-events").status_code == 403
    assert User.objects.get(pk=vera.pk).role.name == "viewer"
