"""The way back after signing in stays on the host, in every browser."""

from urllib.parse import urljoin, urlsplit

import pytest
from django.utils.http import url_has_allowed_host_and_scheme
from hypothesis import given, settings
from hypothesis import strategies as st

from core.redirects import safe_next_path
from tests.evil_redirects import EVIL_REDIRECTS
from tests.examples import examples

HERE = "https://auth.example.com/sign-in"


@pytest.mark.parametrize("text", EVIL_REDIRECTS)
def test_promise_41_no_trick_leads_away(text):
    assert safe_next_path(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "/",
        "/a",
        "/a/b/?x=1&y=2",
        "/a?next=https://evil.example//x",
        "/a%20b?c=%2F%2Fevil.example",
        "/a?x[]={1|2}^`'",
        "/z%C3%BCrich",
        "/@evil.example",
        "/https:evil.example",
        "/a?" + "b" * 1_990,
    ],
)
def test_an_address_of_ones_own_is_left_as_it_is(text):
    assert safe_next_path(text) == text
    assert url_has_allowed_host_and_scheme(text, allowed_hosts={"auth.example.com"}, require_https=True)


def test_a_very_long_way_is_none():
    assert safe_next_path("/" + "a" * 2_000) == ""


PIECES = ["/", "\\", "evil.example", ":", "@", "?", "#", "%2f", "%5C", ".", "..", "\t", "\n", " ", "http", ";"]


@settings(deadline=None, max_examples=examples(400))
@given(st.one_of(st.text(max_size=30), st.lists(st.sampled_from(PIECES), max_size=8).map("".join)))
def test_promise_41_what_is_let_through_stays_however_it_is_resolved(text):
    found = safe_next_path(text)
    assert found in ("", text)
    if found:
        for seen in (found, found.replace("\\", "/"), found.strip(), found.replace("%2f", "/").replace("%2F", "/")):
            assert urlsplit(urljoin(HERE, seen)).netloc == "auth.example.com"
        assert url_has_allowed_host_and_scheme(found, allowed_hosts={"auth.example.com"}, require_https=True)
        assert found.isascii()
        assert found.isprintable()
        assert " " not in found
