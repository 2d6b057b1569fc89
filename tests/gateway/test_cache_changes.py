"""The decision cache beside the database: after any changes, both give the same answer. A change ends only what depends on it."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import GroupRole, PolicyChange, PolicyRevision, ServiceAccount, Session, Token, User
from authn import identify, lockout
from authn.credentials import Bearer
from gateway import verify
from gateway.asgi import ForwardAuthApp
from gateway.cache import CachedCaller, DecisionCache, cache_key
from gateway.forwarded import AuthRequest, x_forwarded
from rbac.models import Role, Route
from revision.epoch import MAX_CHANGES, Follower, LoggedChange, Position
from revision.triggers import change_revision
from tests.examples import examples
from tests.factories import PASSWORD, GroupRoleFactory, ServiceAccountFactory, UserFactory, make_token
from tests.races import separate_connections
from tests.verify_client import CLIENT, basic, bearer, cookie, proxied

__all__ = ["separate_connections"]


class Reader:
    """Follows the database of the test, as the readers of `revision` follow theirs."""

    def __init__(self) -> None:
        self.follower = Follower()
        self.cache = DecisionCache()

    def snapshot(self):
        row = PolicyRevision.objects.filter(pk=1).values_list("number", "value").first()
        if row is None:
            return None
        known = self.follower.known
        log = PolicyChange.objects.filter(number__gt=row[0] if known is None else known.number).order_by("number", "position")
        changes = [LoggedChange(*c) for c in log.values_list("number", "previous", "value", "kind", "key")[:MAX_CHANGES]]
        return self.cache.of(self.follower.follow(Position(*row), changes, "the database"))


@pytest.fixture
def world(separate_connections, settings, read_write, client):
    """Callers with each kind of credential: requests, by what they are called."""
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"
    bob, vera, _ = (UserFactory(username=f"{name}@example.com") for name in ("bob", "vera", "gus"))
    for name, owner in (("pipeline", bob), ("robot", vera), ("alone", None)):
        ServiceAccountFactory(name=name, owner=owner)
    tokens = {name: make_token(ServiceAccount.objects.get(name=name))[1] for name in ("pipeline", "robot", "alone")}
    client.login(username="bob@example.com", password=PASSWORD)
    GroupRoleFactory(group="dev")
    return {
        **{name: AuthRequest(bearer(token), proxied()) for name, token in tokens.items()},
        "basic": AuthRequest(basic("bob@example.com", PASSWORD), proxied()),
        "session": AuthRequest(cookie(client.session.session_key), proxied()),
        "bob": AuthRequest([], proxied(subject="bob@example.com")),
        "vera": AuthRequest([], proxied(subject="vera@example.com")),
        "dev": AuthRequest([], proxied(subject="gus@example.com", groups="dev")),
        "write": AuthRequest(bearer(tokens["pipeline"]), proxied("POST")),
    }


def from_cache(request, snapshot):
    try:
        return verify.evaluate(request, x_forwarded, verify.CacheOnly(snapshot))
    except verify.CacheMiss:
        return None


def users(name):
    return User.objects.filter(username=f"{name}@example.com")


def set_role(rows, role):
    rows.update(role=Role.objects.get(name=role))


ALL = {"pipeline", "robot", "alone", "basic", "session", "bob", "vera", "dev", "write"}
OF_BOB = {"pipeline", "write", "basic", "session", "bob"}
ENDS = {
    "a user": (lambda: users("bob").update(display_name="B"), OF_BOB),
    "another user": (lambda: users("vera").update(is_active=False), {"robot", "vera"}),
    "an account": (lambda: ServiceAccount.objects.filter(name="pipeline").update(description="x"), {"pipeline", "write"}),
    "a token": (lambda: Token.objects.filter(account__name="alone").update(revoked_at=timezone.now()), {"alone"}),
    "a session": (lambda: Session.objects.all().delete(), {"session"}),
    "a deleted user": (lambda: users("vera").delete(), {"robot", "vera"}),
    "the role that all have": (lambda: Role.objects.filter(name="user").update(description="x"), ALL),
    "a role that nobody has": (lambda: Role.objects.filter(name="viewer").update(description="x"), set()),
    "a group": (lambda: GroupRole.objects.update(priority=7), {"bob", "vera", "dev"}),
    "failures of the address": (lambda: change_revision(connection, *lockout.tag(CLIENT)), {"basic"}),
    "failures of a stranger": (lambda: change_revision(connection, *lockout.tag("198.51.100.1")), set()),
    "a new user": (UserFactory, set()),
    "a new token": (lambda: make_token(ServiceAccount.objects.get(name="alone")), set()),
    "something unknown": (lambda: change_revision(connection), ALL),
    "a lost revision": (lambda: (PolicyRevision.objects.all().delete(), change_revision(connection, "role", "viewer")), ALL),
    "a lost log": (lambda: (users("bob").update(email="b@c.d"), PolicyChange.objects.all().delete()), ALL),
    "an older version": (lambda: PolicyRevision.objects.update(value="written by an older version"), ALL),
}


@pytest.mark.parametrize("what", ENDS)
def test_promise_14_a_change_ends_the_callers_that_depend_on_it_and_no_others(world, what):
    reader = Reader()
    for request in [*world.values()] * 2:  # the groups change the user's row at the first time
        assert verify.decide(request, x_forwarded, reader.snapshot()).status == 200
    assert all(from_cache(request, reader.snapshot()) for request in world.values())
    app = ForwardAuthApp(None)
    app._cache = reader.cache
    looked_up = {name: app._look_up(request, x_forwarded, reader.snapshot()) for name, request in world.items()}
    change, ended = ENDS[what]
    change()
    snapshot = reader.snapshot()
    again = {name: app.look_up_again(cached, snapshot.epoch).answer for name, cached in looked_up.items()}
    kept = set() if snapshot.route_table is None else ALL - ended
    assert {name for name, answer in again.items() if answer is not None} == kept, "the change came while the request waited"
    if snapshot.route_table is None:  # another epoch
        verify.decide(world["alone"]._replace(headers=[]), x_forwarded, snapshot)
    assert {name for name, request in world.items() if from_cache(request, snapshot) is None} == ended


def test_a_change_of_the_routes_keeps_the_callers(world, django_assert_num_queries):
    reader, app = Reader(), ForwardAuthApp(None)
    app._cache = reader.cache
    for request in [*world.values()] * 2:
        verify.decide(request, x_forwarded, reader.snapshot())
    looked_up = [app._look_up(request, x_forwarded, reader.snapshot()) for request in world.values()]
    Route.objects.create(position=0, path="/things", methods=["GET"], permission="roles:write")
    snapshot = reader.snapshot()
    assert not any(app.look_up_again(cached, snapshot.epoch).answer for cached in looked_up)
    assert all(from_cache(request, snapshot) is None for request in world.values())
    assert len(snapshot) == len(world) - 1, "two requests have one caller"
    with django_assert_num_queries(1):  # the routes
        assert verify.DatabaseLookups(snapshot).route_table()
    assert from_cache(world["write"], snapshot).status == 200
    assert verify.decide(world["alone"], x_forwarded, snapshot).status == 403


def test_promise_54_a_caller_found_before_a_change_and_cached_after_it_is_not_used(world):
    """The thread that authenticates is slower than the change and the read of it."""
    reader = Reader()
    snapshot = reader.snapshot()
    token = dict(world["pipeline"].headers)[b"authorization"].removeprefix(b"Bearer ")
    number, credential = snapshot.epoch.number, Bearer(token)
    late = CachedCaller(identify.authenticate(credential, client=CLIENT), number)
    users("bob").update(is_active=False)
    verify.decide(world["alone"], x_forwarded, reader.snapshot())
    snapshot.add_caller(cache_key(credential, CLIENT), late)
    assert from_cache(world["pipeline"], reader.snapshot()) is None
    assert verify.decide(world["pipeline"], x_forwarded, reader.snapshot()).status == 401


def test_a_table_without_a_kind_ends_nothing_less_than_everything(world, monkeypatch):
    monkeypatch.setattr(identify, "_tag", lambda *_: pytest.fail("asked"))
    result = identify.AuthenticationResult(identify.principals.anonymous(CLIENT))
    assert result.depends_on is None
    reader = Reader()
    snapshot = reader.snapshot()
    snapshot.add_caller((b"k", CLIENT), CachedCaller(result, snapshot.epoch.number))
    assert snapshot.caller((b"k", CLIENT), 0)
    Role.objects.filter(name="viewer").update(description="x")
    assert reader.snapshot().caller((b"k", CLIENT), 0) is None


ROLES = ("viewer", "user", "admin")
USERS, ACCOUNTS = ("bob", "vera", "gus"), ("pipeline", "robot", "alone")
role = st.sampled_from(ROLES)
user, account = st.sampled_from(USERS), st.sampled_from(ACCOUNTS)
CHANGES = st.one_of(
    st.tuples(st.just("activate"), user, st.booleans()),
    st.tuples(st.just("user role"), user, role),
    st.tuples(st.just("sign in"), user, st.sampled_from(["both", "sso", "password"])),
    st.tuples(st.just("account role"), account, role),
    st.tuples(st.just("account"), account, st.booleans()),
    st.tuples(st.just("owner"), account, st.sampled_from([*USERS, None])),
    st.tuples(st.just("token"), account, st.sampled_from(["revoked", "expired", "active"])),
    st.tuples(st.just("end session")),
    st.tuples(st.just("permissions"), role, st.lists(st.sampled_from(["upstream:read", "upstream:write"]), unique=True)),
    st.tuples(st.just("group"), st.sampled_from(["dev", "ops"]), st.sampled_from([*ROLES, None])),
    st.tuples(st.just("route"), st.sampled_from(["upstream:read", "upstream:write", "users:write", None])),
    st.tuples(st.just("older version")),
    st.tuples(st.just("lose log")),
    st.tuples(st.just("lose revision")),
    st.tuples(st.just("ask"), st.sampled_from(sorted(ALL))),
    st.tuples(st.just("hold"), st.sampled_from(sorted(ALL))),
    st.tuples(st.just("release")),
)


def set_group(name, new):
    if new is None:
        GroupRole.objects.filter(group=name).delete()
    else:
        GroupRole.objects.update_or_create(group=name, defaults={"role": Role.objects.get(name=new)})


def set_route(permission):
    if permission is None:
        Route.objects.filter(position=0).delete()
    else:
        Route.objects.update_or_create(position=0, defaults={"path": "/**", "methods": ["*"], "permission": permission})


def set_token(name, state):
    now = timezone.now()
    expires = now - timedelta(seconds=1) if state == "expired" else now + timedelta(days=1)
    Token.objects.filter(account__name=name).update(revoked_at=now if state == "revoked" else None, expires_at=expires)


def accounts(name):
    return ServiceAccount.objects.filter(name=name)


CHANGE = {
    "activate": lambda name, active: users(name).update(is_active=active),
    "user role": lambda name, new: set_role(users(name), new),
    "sign in": lambda name, method: users(name).update(sign_in=method),
    "account role": lambda name, new: set_role(accounts(name), new),
    "account": lambda name, active: accounts(name).update(is_active=active),
    "owner": lambda name, owner: accounts(name).update(owner=users(owner).first() if owner else None),
    "token": set_token,
    "end session": lambda: Session.objects.all().delete(),
    "permissions": lambda name, permissions: Role.objects.filter(name=name).update(permissions=permissions),
    "group": set_group,
    "route": set_route,
    "older version": lambda: PolicyRevision.objects.update(value=f"old{timezone.now():%M%S%f}"),
    "lose log": lambda: PolicyChange.objects.all().delete(),
    "lose revision": lambda: PolicyRevision.objects.all().delete(),
}


@settings(
    max_examples=examples(4, long=400),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(CHANGES, min_size=5, max_size=40))
def test_promise_54_the_cache_answers_as_the_database_does(world, steps):
    """One reader, one cache, and changes of every kind. Each answer of the cache is compared with one of the database."""
    reader, held = Reader(), []
    for step, *what in steps:
        snapshot = reader.snapshot()
        if step == "hold":  # a thread has read the database, and is slow to go on
            if snapshot is not None:
                held.append((snapshot, what[0], snapshot.epoch.number, _identify(world[what[0]])))
        elif step == "release":
            for old, name, number, result in held:
                if result is not None:
                    old.add_caller(_key(world[name]), CachedCaller(result, number))
        elif step != "ask":
            CHANGE[step](*what)
        for name in [what[0]] if step == "ask" else sorted(ALL):
            snapshot = reader.snapshot()
            cached = from_cache(world[name], snapshot) if snapshot is not None else None
            answer = cached or verify.decide(world[name], x_forwarded, snapshot)
            expected = verify.decide(world[name])
            assert answer.status == expected.status, (name, step, what)
            assert answer.status != 200 or answer == expected, (name, step, what)


def _credential(request):
    return verify._credential(request)


def _identify(request):
    try:
        return identify.authenticate(_credential(request), client=CLIENT, record=False)
    except verify.InvalidCredential:
        return None


def _key(request):
    return cache_key(_credential(request), CLIENT)
