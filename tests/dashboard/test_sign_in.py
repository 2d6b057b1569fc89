"""The sign-in page: who comes in, where they go from there, and what it gives away."""

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


def fields_of(answer):
    return form_of(answer, "sign-in")


def proof(answer):
    """Return the CSRF token of the form on a page."""
    return re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', answer.text)[1]


def test_the_pages_have_their_addresses():
    assert (reverse("dashboard:sign-in"), reverse("dashboard:sign-out")) == (PAGE, "/sign-out")


def test_an_ordinary_user_signs_in_and_goes_back_to_where_they_were(client, vera):
    answer = client.get(PAGE, {"next": "/things/7?a=b&c=d%20e"})
    assert answer.status_code == 200
    fields = fields_of(answer)
    assert fields["next"] == ["/things/7?a=b&c=d%20e"]
    answer = sign_in(client, next=fields["next"][0])
    assert (answer.status_code, answer["Location"]) == (302, "/things/7?a=b&c=d%20e")
    assert Entry.objects.get(event="sign-in.succeeded").actor == "vera@example.com"


def test_without_a_way_back_they_come_home_and_see_who_they_are(client, vera):
    answer = client.post(PAGE, {"username": "Vera@Example.com", "password": PASSWORD}, follow=True)
    assert answer.redirect_chain == [(HOME, 302)]
    assert "vera@example.com" in answer.text
    assert "Sign out" in answer.text
    answer = client.get(PAGE)
    assert "the role viewer" in answer.text
    assert f'href="{HOME}"' in answer.text


def test_who_has_signed_in_goes_straight_back(client, vera):
    sign_in(client)
    answer = client.get(PAGE, {"next": "/things"})
    assert (answer.status_code, answer["Location"]) == (302, "/things")


@pytest.mark.parametrize("target", EVIL_REDIRECTS)
def test_promise_41_nobody_is_led_away_before_or_after_signing_in(client, vera, target):
    assert fields_of(client.get(PAGE, {"next": target}))["next"] == [""]
    answer = sign_in(client, next=target)
    assert (answer.status_code, answer["Location"]) == (302, HOME)
    assert client.get(PAGE, {"next": target}).status_code == 200
    answer = client.post("/sign-out", {"next": target})
    assert (answer.status_code, answer["Location"]) == (302, PAGE)


def test_promise_19_whatever_is_wrong_the_answer_is_the_same(client, vera, settings):
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
        answer = sign_in(client, name, password)
        assert answer.status_code == 200
        assert not client.session.get("_auth_user_id")
        pages.append(re.sub(r'(value|content)="[^"]*"', "", answer.text))
        assert password not in answer.text or password == "wrong"
    assert len(set(pages)) == 1
    assert "Incorrect username or password" in pages[0]
    reasons = set(Entry.objects.filter(event="sign-in.refused").values_list("reason", flat=True))
    assert {"wrong password", "unknown user", "disabled"} <= reasons


def test_throttling_ends_with_the_right_password_from_elsewhere(vera, settings):
    settings.AXES_FAILURE_LIMIT = 2
    here, there = Client(REMOTE_ADDR="192.0.2.1"), Client(REMOTE_ADDR="192.0.2.2")
    for _ in range(3):
        sign_in(here, password="wrong")
    assert sign_in(here).status_code == 200
    assert sign_in(there).status_code == 302


@pytest.mark.parametrize("missing", ["username", "password"])
def test_an_empty_field_is_named(client, missing):
    answer = client.post(PAGE, {"username": "vera@example.com", "password": "x", missing: ""})
    assert f"{missing.capitalize()}: This field is required." in answer.text


@pytest.mark.parametrize("basic", [True, False])
def test_the_page_works_whether_or_not_basic_is_accepted(client, vera, settings, basic):
    settings.AUTH_BASIC = basic
    assert sign_in(client).status_code == 302


def test_what_was_typed_is_shown_as_text(client):
    answer = sign_in(client, '"><script>alert(1)</script>', next='/a?"><script>')
    assert "<script" not in answer.text
    assert fields_of(answer)["username"] == ['"><script>alert(1)</script>']


def test_promise_36_signing_in_and_out_need_proof_from_a_page_of_ours(vera):
    browser = Client(enforce_csrf_checks=True)
    assert sign_in(browser).status_code == 403
    assert sign_in(browser, csrfmiddlewaretoken=proof(browser.get(PAGE))).status_code == 302
    assert browser.post("/sign-out").status_code == 403
    assert browser.get("/sign-out").status_code == 405
    assert browser.post("/sign-out", {"csrfmiddlewaretoken": proof(browser.get(PAGE))}).status_code == 302


def test_promise_40_signing_in_makes_a_new_session_and_signing_out_ends_it(client, vera):
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


def test_who_was_recognised_in_front_of_the_page_cannot_sign_out_on_it(bob):
    pair = base64.b64encode(f"bob@example.com:{PASSWORD}".encode()).decode()
    answer = Client(headers={"authorization": f"Basic {pair}"}).get(PAGE)
    assert "bob@example.com" in answer.text
    assert "<form" not in answer.text
    assert "through a proxy" in answer.text


def test_a_page_allows_nothing_but_its_own_files_and_is_not_kept(client, vera):
    for answer in (client.get(PAGE), client.post(PAGE, {}), (sign_in(client), client.get(PAGE))[1]):
        policy = answer["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "style-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "no-store" in answer["Cache-Control"]
        assert not re.search(r"<style|style=|<script|\son\w+=|https?://", answer.text)


def test_signing_in_opens_nothing_that_the_role_does_not(client, vera):
    sign_in(client)
    assert client.get("/admin/").status_code == 302
    assert client.get("/api/v1/users").status_code == 200
    assert client.get("/api/v1/audit-events").status_code == 403
    assert User.objects.get(pk=vera.pk).role.name == "viewer"
