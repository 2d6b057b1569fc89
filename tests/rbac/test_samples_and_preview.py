"""The sample of requests that were judged, and what a change of the rules would do to them."""

import pytest
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext

from accounts.principal_lookup import permissions_of, service_account_principal
from accounts.services import offboarding, users
from core.errors import Conflict, Forbidden, Invalid
from core.paths import split_path
from rbac import packs, preview, principals, samples, services
from rbac.models import RecentRequest
from rbac.packs import RouteSpec
from rbac.principals import ANONYMOUS
from rbac.samples import RequestSampler
from rbac.targets import Target
from tests.factories import ServiceAccountFactory, UserFactory, principal

pytestmark = pytest.mark.django_db


def target(path="/things", method="GET", host="api.example.com"):
    return Target(method, host, split_path(path), path)


@pytest.fixture
def sample(settings):
    """A sample whose thread is the test itself."""
    settings.RECENT_REQUESTS = 50
    made = RequestSampler()
    made._enabled = True
    return made


@pytest.fixture
def noted(sample, read_write, alice, bob, vera, pipeline):
    """What alice, bob, vera, pipeline and a stranger asked."""
    for who in (alice, bob, vera):
        sample.note(principal(who), target(), allowed=True)
        sample.note(principal(who), target(method="POST"), allowed=who is not vera)
    sample.note(service_account_principal(pipeline)[0], target("/jobs", "POST"), allowed=True)
    sample.note(ANONYMOUS, target("/open"), allowed=True)
    sample.flush()
    return sample


def callers_and_requests(effects):
    return sorted((effect.request.caller, effect.request.method, effect.request.path) for effect in effects)


def test_a_request_is_noted_once_for_each_caller_method_host_and_path(sample, bob, vera):
    for who in (bob, bob, vera):
        for asked in (target(), target(), target("/others"), target(method="POST"), target(host="b.example.com")):
            sample.note(principal(who), asked, allowed=True)
    sample.flush()
    assert RecentRequest.objects.count() == 8
    row = RecentRequest.objects.filter(caller="bob@example.com", method="POST").get()
    assert (row.caller_kind, row.caller_uid, row.host, row.path) == ("user", bob.uid, "api.example.com", "/things")
    assert row.allowed


def test_the_same_request_is_written_again_after_a_minute(sample, bob, monkeypatch):
    sample.note(principal(bob), target(), allowed=True)
    sample.flush()
    first = RecentRequest.objects.get()
    sample.note(principal(bob), target(), allowed=False)
    with CaptureQueriesContext(connection) as asked:
        sample.flush()
    assert len(asked) == 0
    later = samples.time.monotonic() + 61
    monkeypatch.setattr(samples.time, "monotonic", lambda: later)
    sample.note(principal(bob), target(), allowed=False)
    sample.flush()
    again = RecentRequest.objects.get()
    assert (again.pk, again.allowed) == (first.pk, False)
    assert again.at > first.at


def test_the_oldest_go_first_and_a_flood_is_cut(sample, bob, settings):
    for n in range(70):
        sample.note(principal(bob), target(f"/a{n}"), allowed=True)
        sample.flush()
    assert RecentRequest.objects.count() <= settings.RECENT_REQUESTS
    assert RecentRequest.objects.first().path == "/a69"
    for n in range(1_000):
        sample.note(principal(bob), target(f"/b{n}"), allowed=True)
    assert len(sample._waiting) == samples._AT_ONCE
    with CaptureQueriesContext(connection) as asked:
        sample.flush()
    assert len(asked) <= 6  # as many as for one: a savepoint, the rows, and what goes


def test_strangers_who_are_refused_and_paths_without_end_are_left_out(sample, bob):
    sample.note(ANONYMOUS, target("/x"), allowed=False)
    sample.note(principal(bob), target("/" + "x" * 500), allowed=True)
    sample.flush()
    assert not RecentRequest.objects.exists()


def test_nothing_is_noted_where_nothing_is_kept_or_no_server_runs(settings, bob):
    settings.RECENT_REQUESTS = 0
    off = RequestSampler()
    off.start()
    off.note(principal(bob), target(), allowed=True)
    assert not off._enabled
    assert not off._flusher.running
    assert off._waiting == {}


def test_a_write_that_fails_fails_nothing_else(sample, bob, monkeypatch):
    def fails(*_):
        raise DatabaseError

    monkeypatch.setattr(samples, "_write", fails)
    sample.note(principal(bob), target(), allowed=True)
    sample.flush()
    assert not RecentRequest.objects.exists()


def test_a_preview_of_the_same_routes_says_that_nothing_changes(noted, alice):
    result = preview.of_routes(actor=principal(alice), specs=packs.load("read-write").routes, permissions_of=permissions_of)
    assert (result.effects, result.tried) == ((), 8)


def test_a_preview_of_routes_tells_who_would_gain_and_who_would_lose(noted, alice):
    specs = [RouteSpec("/open", ("GET",), "upstream:public"), RouteSpec("/things", ("POST",), "upstream:read"),
             RouteSpec("/jobs", ("POST",), "upstream:admin"), RouteSpec("/**", ("*",), "upstream:read")]  # fmt: skip
    result = preview.of_routes(actor=principal(alice), specs=specs, permissions_of=permissions_of)
    assert callers_and_requests(result.gained) == [("anonymous", "GET", "/open"), ("vera@example.com", "POST", "/things")]
    assert callers_and_requests(result.lost) == [("pipeline", "POST", "/jobs")]
    [lost] = result.lost
    assert (lost.before.needed, lost.after.needed) == ("upstream:write", "upstream:admin")
    assert lost.after.rule.startswith("#3 ")
    assert services.route_table().rules[0].text.startswith("#1 GET"), "nothing was changed"


def test_a_preview_of_a_role_covers_service_accounts_through_their_owners(noted, alice, bob):
    result = preview.of_role(actor=principal(alice), name="user", permissions=["upstream:read"], permissions_of=permissions_of)
    assert callers_and_requests(result.lost) == [("bob@example.com", "POST", "/things"), ("pipeline", "POST", "/jobs")]
    assert result.gained == ()
    more = preview.of_role(
        actor=principal(alice), name="viewer", permissions=["upstream:read", "upstream:write"], permissions_of=permissions_of
    )
    assert callers_and_requests(more.gained) == [("vera@example.com", "POST", "/things")]
    assert services.get_role("user").holds > {"upstream:write"}, "nothing was changed"


def test_who_is_gone_or_disabled_is_not_tried(noted, alice, bob, vera, system):
    users.set_active(actor=system, user=bob, active=False)
    offboarding.delete_user(actor=system, user=vera)
    result = preview.of_routes(actor=principal(alice), specs=[], permissions_of=permissions_of)
    assert callers_and_requests(result.lost) == [
        ("alice@example.com", "GET", "/things"),
        ("alice@example.com", "POST", "/things"),
    ]


def test_a_shared_password_that_is_gone_is_not_tried(sample, read_write, alice, settings):
    sample.note(principals.shared("team", ""), target(), allowed=True)
    sample.flush()
    assert preview.of_routes(actor=principal(alice), specs=[], permissions_of=permissions_of).tried == 0
    settings.AUTH_STRING = "team:$2b$04$abcdefghijklmnopqrstuuDPUHkB8CtJOuwT2yyDgHq6EKuxd4Ohy"
    assert callers_and_requests(preview.of_routes(actor=principal(alice), specs=[], permissions_of=permissions_of).lost) == [
        ("team", "GET", "/things")
    ]


def test_a_preview_refuses_what_could_not_be_saved_and_who_may_not_ask(noted, alice, bob, vera):
    with pytest.raises(Invalid):
        preview.of_routes(
            actor=principal(alice), specs=[RouteSpec("things", ("GET",), "upstream:read")], permissions_of=permissions_of
        )
    with pytest.raises(Invalid):
        preview.of_role(actor=principal(alice), name="nobody", permissions=[], permissions_of=permissions_of)
    with pytest.raises(Conflict):
        preview.of_role(actor=principal(alice), name="admin", permissions=[], permissions_of=permissions_of)
    for who in (bob, vera):
        with pytest.raises(Forbidden):
            preview.of_routes(actor=principal(who), specs=[], permissions_of=permissions_of)
        with pytest.raises(Forbidden):
            preview.of_role(actor=principal(who), name="user", permissions=[], permissions_of=permissions_of)


def test_a_preview_costs_the_same_queries_for_few_and_for_many(noted, alice, sample, django_assert_num_queries):
    admin = principal(alice)
    with CaptureQueriesContext(connection) as few:
        preview.of_routes(actor=admin, specs=[], permissions_of=permissions_of)
    for _ in range(15):
        sample.note(principal(UserFactory()), target(), allowed=True)
        sample.note(service_account_principal(ServiceAccountFactory())[0], target(), allowed=True)
    sample.flush()
    with django_assert_num_queries(len(few)):
        assert preview.of_routes(actor=admin, specs=[], permissions_of=permissions_of).tried == 38
