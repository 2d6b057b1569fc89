"""The number of queries of a decision. It is exact: one more needs a reason."""

import bcrypt
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from authn import passwords
from rbac import services as rbac
from rbac.packs import RouteSpec
from rbac.principals import system
from tests.factories import PASSWORD, GroupRoleFactory
from tests.verify_client import basic, bearer, cookie, judge, proxied

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def header_mode(settings, read_write):
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"


def warm(lines, proxy_info, status=200):
    """Send the first request of a minute, which updates the last-used timestamp and verifies the password."""
    assert judge(lines, proxy_info).status == status


def test_a_token_costs_two_queries(pipeline_token, django_assert_num_queries):
    warm(bearer(pipeline_token), proxied())
    with django_assert_num_queries(2):  # the token with account, owner and roles in one join; the routes
        assert judge(bearer(pipeline_token), proxied()).status == 200


def test_a_verified_password_costs_three_queries(bob, django_assert_num_queries):
    warm(basic("bob@example.com", PASSWORD), proxied())
    with django_assert_num_queries(3):  # the user, whose hash and state are never cached; the failures of the address; the routes
        assert judge(basic("bob@example.com", PASSWORD), proxied()).status == 200


def test_the_shared_password_costs_two_queries(settings, django_assert_num_queries):
    settings.AUTH_STRING = f"team:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}"
    warm(basic("team", "secret"), proxied())
    with django_assert_num_queries(2):  # the failures of the address; the routes
        assert judge(basic("team", "secret"), proxied()).status == 200


def test_a_session_costs_two_queries(client, bob, django_assert_num_queries):
    client.login(username="bob@example.com", password=PASSWORD)
    key = client.session.session_key
    warm(cookie(key), proxied())
    with django_assert_num_queries(2):  # the session with the user, whose hash it hangs on; the routes
        assert judge(cookie(key), proxied()).status == 200


def test_a_proxy_header_costs_two_queries(bob, django_assert_num_queries):
    warm([], proxied(subject="bob@example.com"))
    with django_assert_num_queries(2):  # the user; the routes
        assert judge([], proxied(subject="bob@example.com")).status == 200


def test_groups_cost_one_query_more(bob, django_assert_num_queries):
    GroupRoleFactory(group="dev")
    proxy_info = proxied(subject="bob@example.com", groups="dev,ops")
    warm([], proxy_info)
    with django_assert_num_queries(3):  # the user; the role of the groups; the routes
        assert judge([], proxy_info).status == 200
    proxy_info = proxied(subject="bob@example.com", groups="")
    warm([], proxy_info)
    with django_assert_num_queries(2):  # no groups, so none are looked up
        assert judge([], proxy_info).status == 200


def test_an_anonymous_caller_costs_one_query(system, django_assert_num_queries):
    rbac.create_route(actor=system, spec=RouteSpec("/open", ("GET",), "upstream:public"), position=1)
    with django_assert_num_queries(1):  # the routes
        assert judge([], proxied(path="/open")).status == 200
    warm([], proxied(), 401)
    with django_assert_num_queries(1):  # the routes; the refusal was recorded less than a minute ago
        assert judge([], proxied()).status == 401


@pytest.mark.parametrize("value", [b"Bearer sky_nonsense", b"Basic !", b"Digest x", b"Bearer sky_" + b"a" * 62])
def test_promise_09_a_malformed_credential_costs_no_query(django_assert_num_queries, value):
    warm([(b"authorization", value)], proxied(), 401)
    with django_assert_num_queries(0):  # malformed; the refusal was recorded less than a minute ago
        assert judge([(b"authorization", value)], proxied()).status == 401


def test_an_unreadable_request_costs_no_query(django_assert_num_queries):
    warm([], proxied(path="//"), 403)
    with django_assert_num_queries(0):  # denied before any route is read
        assert judge([], proxied(path="//")).status == 403


def test_a_denial_costs_as_much_as_an_allowed_request_and_its_page_one_more(vera, django_assert_num_queries):
    proxy_info = proxied("POST", subject="vera@example.com")
    warm([], proxy_info, 403)
    with django_assert_num_queries(2):  # the user; the routes; the denial was recorded less than a minute ago
        assert judge([], proxy_info).status == 403
    rbac.replace_routes(actor=system("tests"), specs=[RouteSpec("/**", ("*",), "upstream:admin")], source="tests")
    lines, proxy_info = [(b"accept", b"text/html")], proxied(subject="vera@example.com")
    warm(lines, proxy_info, 403)
    with django_assert_num_queries(3):  # the user; the routes; the roles with the permission
        assert judge(lines, proxy_info).body.startswith(b"<!DOCTYPE html>")
    warm(lines, proxied(), 401)
    with django_assert_num_queries(1):  # the routes; how to sign in is known without a query
        assert judge(lines, proxied()).status == 401


def test_the_first_denial_in_a_minute_costs_one_insert(vera, django_assert_num_queries):
    proxy_info = proxied("POST", subject="vera@example.com")
    judge([], proxied(subject="vera@example.com"))
    with django_assert_num_queries(5):  # the user; the routes; the entry inside a savepoint, which is three
        assert judge([], proxy_info).status == 403


def test_the_number_does_not_grow_with_routes_roles_or_tokens(system, pipeline, pipeline_token, django_assert_num_queries):
    specs = [RouteSpec(f"/r{n}/**", ("GET",), "upstream:read") for n in range(200)]
    rbac.replace_routes(actor=system, specs=[*specs, RouteSpec("/**", ("*",), "upstream:write")], source="tests")
    warm(bearer(pipeline_token), proxied())
    with django_assert_num_queries(2):  # as with two routes
        assert judge(bearer(pipeline_token), proxied()).status == 200


def test_the_first_use_in_a_minute_costs_one_update(pipeline_token, django_assert_num_queries):
    with django_assert_num_queries(5):  # the token; its last-used timestamp inside a savepoint, which is three; the routes
        assert judge(bearer(pipeline_token), proxied()).status == 200


def test_all_refusals_of_passwords_cost_the_same_queries(bob, vera):
    vera.is_active = False
    vera.save()
    passwords._dummy_hash()
    counts = []
    for name in ("bob@example.com", "vera@example.com", "mallory@example.com"):
        warm(basic(name, "wrong"), proxied(client="203.0.113.9"), 401)
        with CaptureQueriesContext(connection) as queries:
            assert judge(basic(name, "wrong"), proxied(client="203.0.113.9")).status == 401
        counts.append(len(queries))
    assert len(set(counts)) == 1, "promise 19: the number of queries reveals nothing either"
