"""What a person reads in a browser when no page can be shown, and what a program gets in its place."""

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
    """Return the browser of somebody who has signed in."""
    browser = Client(headers=BROWSER, **settings)
    assert browser.post("/sign-in", {"username": name, "password": PASSWORD}).status_code == 302
    return browser


def title(answer):
    """Return the heading of a page of ours, which allows nothing but its own files."""
    assert answer["Content-Type"] == "text/html; charset=utf-8"
    assert not re.search(r"<style|style=|<script|\son\w+=|https?://", answer.text)
    assert "style-src 'self'" in answer["Content-Security-Policy"]
    assert answer["Cache-Control"] == "no-store"
    return re.search(r"<h1>(.*?)</h1>", answer.text)[1]


def break_home(monkeypatch, error):
    """Let the home page fail."""

    def get(_page, _request):
        raise error

    monkeypatch.setattr(HomePage, "get", get)


@pytest.mark.parametrize("path", ["/nothing", "/skyauth/nothing"])
def test_an_address_without_a_page_says_so_and_leads_home(path):
    answer = Client(headers=BROWSER).get(path)
    assert (answer.status_code, title(answer)) == (404, "There is no such page")
    assert 'href="/skyauth/"' in answer.text


def test_promise_36_a_form_without_proof_is_refused_in_words_that_say_what_to_do():
    answer = Client(enforce_csrf_checks=True, headers=BROWSER).post("/sign-in", {"username": "vera@example.com"})
    assert (answer.status_code, title(answer)) == (403, "This form was not accepted")
    assert "load the page again" in answer.text


def test_promise_19_a_refused_credential_is_told_in_words_that_give_nothing_away(vera):
    def ask(pair):
        return Client(headers={**BROWSER, "authorization": f"Basic {pair}"}).get("/skyauth/")

    unknown, wrong = ask("bm9ib2R5OnBhc3N3b3Jk"), ask("dmVyYUBleGFtcGxlLmNvbTpwYXNzd29yZA==")  # nobody, and vera
    assert (unknown.status_code, title(unknown)) == (401, "You could not be signed in")
    assert unknown["WWW-Authenticate"].startswith("Basic ")
    assert unknown.content == wrong.content


def test_what_the_role_does_not_permit_is_refused_in_words(alice, monkeypatch):
    browser = signed_in("alice@example.com")
    break_home(monkeypatch, PermissionDenied)
    answer = browser.get("/skyauth/")
    assert (answer.status_code, title(answer)) == (403, "Not allowed")


def test_what_cannot_be_read_is_refused_in_words(alice, monkeypatch):
    browser = signed_in("alice@example.com")
    break_home(monkeypatch, SuspiciousOperation)
    answer = browser.get("/skyauth/")
    assert (answer.status_code, title(answer)) == (400, "This cannot be read")


def test_what_breaks_is_told_with_the_reference_that_the_log_has(alice, monkeypatch):
    browser = signed_in("alice@example.com", raise_request_exception=False)
    break_home(monkeypatch, RuntimeError("a secret"))
    answer = browser.get("/skyauth/")
    assert (answer.status_code, title(answer)) == (500, "SkyAuth failed")
    assert answer["X-Request-Id"] in answer.text
    assert "a secret" not in answer.text


def test_promise_43_trouble_with_the_database_is_told_as_ours(alice, monkeypatch):
    browser = signed_in("alice@example.com", raise_request_exception=False)
    break_home(monkeypatch, OperationalError("database is locked"))
    answer = browser.get("/skyauth/")
    assert (answer.status_code, title(answer)) == (503, "SkyAuth cannot answer right now")
    assert answer["Retry-After"] == "5"


@pytest.mark.parametrize(("path", "headers"), [("/nothing", PROGRAM), ("/nothing", SCRIPT), ("/api/v1/nothing", BROWSER)])
def test_programs_scripts_and_the_api_get_the_problem_as_it_is(path, headers):
    answer = Client(headers=headers).get(path)
    assert (answer.status_code, answer["Content-Type"]) == (404, "application/problem+json")
    assert answer.json()["code"] == "not-found"
