"""Error pages for browsers, and problem details for other clients."""

import re

import pytest
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db import OperationalError
from django.test import Client

from dashboard.home import HomePage
from tests.factories import PASSWORD

pytestmark = pytest.mark.django_db

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "sec-fetch-mode": "navigate"}
PROGRAM = {"accept": "*/*"}
SCRIPT = {**BROWSER, "sec-fetch-mode": "cors"}


def signed_in(name, **settings):
    """Return a browser in which this user has signed in."""
    browser = Client(headers=BROWSER, **settings)
    assert browser.post("/sign-in", {"username": name, "password": PASSWORD}).status_code == 302
    return browser


def title(answer):
    """Return the heading of a page, whose policy allows only SkyAuth's own files."""
    assert answer["Content-Type"] == "text/html; charset=utf-8"
    assert not re.search(r"<style|style=|<script|\son\w+=|https?://", answer.text)
    assert "style-src 'self'" in answer["Content-Security-Policy"]
    assert answer["Cache-Control"] == "no-store"
    return re.search(r"<h1>(.*?)</h1>", answer.text)[1]


def break_home(monkeypatch, error):
    """Make the home page raise this error."""

    def get(_page, _request):
        raise error

    monkeypatch.setattr(HomePage, "get", get)


@pytest.mark.parametrize("path", ["/nothing", "/skyauth/nothing"])
def test_an_unknown_address_gets_a_page_that_links_to_home(path):
    answer = Client(headers=BROWSER).get(path)
    assert (answer.status_code, title(answer)) == (404, "Page not found")
    assert 'href="/skyauth/"' in answer.text


def test_promise_36_a_form_without_a_csrf_token_gets_a_page_with_advice():
    answer = Client(enforce_csrf_checks=True, headers=BROWSER).post("/sign-in", {"username": "vera@example.com"})
    assert (answer.status_code, title(answer)) == (403, "This form was not accepted")
    assert "load the page again" in answer.text


def test_promise_19_the_page_for_a_refused_credential_reveals_nothing(vera):
    def ask(pair):
        return Client(headers={**BROWSER, "authorization": f"Basic {pair}"}).get("/skyauth/")

    unknown, wrong = ask("bm9ib2R5OnBhc3N3b3Jk"), ask("dmVyYUBleGFtcGxlLmNvbTpwYXNzd29yZA==")  # nobody, and vera
    assert (unknown.status_code, title(unknown)) == (401, "Sign-in failed")
    assert unknown["WWW-Authenticate"].startswith("Basic ")
    assert unknown.content == wrong.content


def test_a_forbidden_page_gets_an_error_page(alice, monkeypatch):
    browser = signed_in("alice@example.com")
    break_home(monkeypatch, PermissionDenied)
    answer = browser.get("/skyauth/")
    assert (answer.status_code, title(answer)) == (403, "Not allowed")


def test_a_malformed_request_gets_an_error_page(alice, monkeypatch):
    browser = signed_in("alice@example.com")
    break_home(monkeypatch, SuspiciousOperation)
    answer = browser.get("/skyauth/")
    assert (answer.status_code, title(answer)) == (400, "Bad request")


def test_an_internal_error_gets_a_page_with_the_request_id_of_the_log(alice, monkeypatch):
    browser = signed_in("alice@example.com", raise_request_exception=False)
    break_home(monkeypatch, RuntimeError("a secret"))
    answer = browser.get("/skyauth/")
    assert (answer.status_code, title(answer)) == (500, "SkyAuth failed")
    assert answer["X-Request-Id"] in answer.text
    assert "a secret" not in answer.text


def test_promise_43_a_database_error_gets_a_503_page(alice, monkeypatch):
    browser = signed_in("alice@example.com", raise_request_exception=False)
    break_home(monkeypatch, OperationalError("database is locked"))
    answer = browser.get("/skyauth/")
    assert (answer.status_code, title(answer)) == (503, "SkyAuth cannot answer right now")
    assert answer["Retry-After"] == "5"


@pytest.mark.parametrize(("path", "headers"), [("/nothing", PROGRAM), ("/nothing", SCRIPT), ("/api/v1/nothing", BROWSER)])
def test_programs_scripts_and_the_api_get_problem_details(path, headers):
    answer = Client(headers=headers).get(path)
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
    assert answer.json()["code"] == "not-found"
