"""`identify`: every kind of credential, every reason to refuse one, and the last-used timestamps."""

from datetime import timedelta

import pytest
from django.contrib.auth.hashers import make_password
from django.db import InterfaceError, connection
from django.utils import timezone

from accounts import selectors, token_format
from accounts.models import ServiceAccount, SignIn, Token, User
from accounts.models import Session as Row
from accounts.services import users
from audit.models import Entry
from authn.credentials import Basic, Bearer, InvalidCredential, ProxyHeader, SessionCookie
from authn.identify import identify, sign_in_with_password
from rbac import principals
from rbac import services as rbac
from rbac.models import Role
from rbac.permissions import EVERYTHING, PUBLIC, UPSTREAM
from rbac.principals import Kind, Method
from tests.factories import PASSWORD, ServiceAccountFactory, UserFactory, make_token, principal
from tests.verify_client import CLIENT, basic, bearer, identity, judge, proxied

FORGED_SECRET = "0" * 43
NOT_ONE = "the name of the user: An identity is one e-mail address, such as alice@example.com."
RESERVED = "the name of the user: Names that start with sa- are reserved for service accounts."


@pytest.fixture(autouse=True)
def plaintext(settings):
    """A trusted proxy may name users."""
    settings.AUTH_USER_HEADER_FORMAT = "plaintext"


def who(credential):
    return identify(credential, client=CLIENT)


def role(name):
    return Role.objects.get(name=name)


def test_no_credential_is_anonymous():
    nobody = who(None)
    assert nobody == principals.anonymous(CLIENT)
    assert nobody.permissions == PUBLIC
    assert (nobody.is_authenticated, nobody.identity, nobody.peer) == (False, "", CLIENT)


def test_a_token_authenticates_its_service_account(bob, pipeline, pipeline_token):
    caller = who(Bearer(pipeline_token.encode()))
    assert (caller.kind, caller.method, caller.name, caller.uid) == (
        Kind.SERVICE_ACCOUNT,
        Method.BEARER,
        "pipeline",
        pipeline.uid,
    )
    assert (caller.pk, caller.owner, caller.role, caller.token_key_id) == (pipeline.pk, bob.pk, "user", pipeline_token[4:16])
    assert caller.permissions == pipeline.role.holds
    assert caller.identity == f"pipeline@{pipeline.uid}"
    assert caller.is_authenticated


def test_a_password_authenticates_its_user(bob):
    person = who(Basic("Bob@example.com", PASSWORD))
    assert (person.kind, person.method, person.name, person.pk, person.owner) == (
        Kind.USER, Method.BASIC, "bob@example.com", bob.pk, bob.pk
    )  # fmt: skip
    assert person.permissions == bob.permissions
    assert person.identity == "bob@example.com"


def test_a_proxys_header_authenticates_its_user_with_their_groups(bob):
    person = who(ProxyHeader("BOB@example.com", "dev, ops ,,"))
    assert (person.kind, person.method, person.name, person.groups) == (
        Kind.USER,
        Method.PROXY,
        "bob@example.com",
        ("dev", "ops"),
    )
    assert who(ProxyHeader("bob@example.com")).groups == ()


def bob_row(**changes):
    User.objects.filter(username="bob@example.com").update(**changes)


def pipeline_row(**changes):
    ServiceAccount.objects.filter(name="pipeline").update(**changes)


def token_row(**changes):
    Token.objects.update(**changes)


def past():
    return timezone.now() - timedelta(days=2)


def forge(token):
    body = f"{token[:17]}{FORGED_SECRET}"
    return body + token_format.checksum(body)


def show(make):
    """Return what makes a credential of a token's text."""
    return lambda token: Bearer(make(token).encode())


def same(token):
    return token


NAMED = lambda name: lambda token: ProxyHeader(name)  # noqa: E731
WITH = lambda name, password: lambda token: Basic(name, password)  # noqa: E731

REFUSALS = {
    "malformed": (None, show(lambda token: "sky_nonsense"), "malformed token", "unknown", "bearer"),
    "one character off": (
        None,
        show(lambda token: token[:-1] + ("0" if token[-1] != "0" else "1")),
        "malformed token",
        "unknown",
        "bearer",
    ),
    "never issued": (None, show(lambda token: token_format.mint().plaintext), "unknown token", "unknown", "bearer"),
    "a forged secret": (None, show(forge), "unknown token", "unknown", "bearer"),
    "expired": (
        lambda: token_row(created_at=past(), expires_at=timezone.now()),
        show(same),
        "expired token",
        "pipeline",
        "bearer",
    ),
    "revoked": (lambda: token_row(revoked_at=timezone.now()), show(same), "revoked token", "pipeline", "bearer"),
    "revoked and expired": (
        lambda: token_row(revoked_at=past(), created_at=past(), expires_at=past()),
        show(same),
        "revoked token",
        "pipeline",
        "bearer",
    ),
    "disabled account": (lambda: pipeline_row(is_active=False), show(same), "disabled service account", "pipeline", "bearer"),
    "disabled owner": (lambda: bob_row(is_active=False), show(same), "service account of a disabled owner", "pipeline", "bearer"),
    "deleted token": (lambda: Token.objects.all().delete(), show(same), "unknown token", "unknown", "bearer"),
    "deleted account": (lambda: ServiceAccount.objects.all().delete(), show(same), "unknown token", "unknown", "bearer"),
    "unknown user": (None, WITH("mallory", "x"), "unknown user", "unknown", "basic"),
    "wrong password": (None, WITH("bob@example.com", "x"), "wrong password", "bob@example.com", "basic"),
    "disabled user": (
        lambda: bob_row(is_active=False),
        WITH("bob@example.com", PASSWORD),
        "disabled",
        "bob@example.com",
        "basic",
    ),
    "sso-only user": (
        lambda: bob_row(sign_in="sso"),
        WITH("bob@example.com", PASSWORD),
        "wrong password",
        "bob@example.com",
        "basic",
    ),
    "two addresses": (None, NAMED("bob@example.com bob@example.com"), NOT_ONE, "bob@example.com bob@example.com", "proxy"),
    "no address": (None, NAMED("bob"), NOT_ONE, "bob", "proxy"),
    "the prefix of service accounts": (None, NAMED("sa-bob@example.com"), RESERVED, "sa-bob@example.com", "proxy"),
    "disabled, named by the proxy": (
        lambda: bob_row(is_active=False),
        NAMED("bob@example.com"),
        "disabled user",
        "bob@example.com",
        "proxy",
    ),
    "by password only": (
        lambda: bob_row(sign_in="password"),
        NAMED("bob@example.com"),
        "this user signs in by password only",
        "bob@example.com",
        "proxy",
    ),
}


@pytest.mark.parametrize(("prepare", "make", "reason", "claimed", "method"), REFUSALS.values(), ids=REFUSALS)
def test_promise_16_every_bad_credential_has_the_same_error_and_its_reason_in_the_audit_log(
    bob, pipeline_token, prepare, make, reason, claimed, method
):
    if prepare:
        prepare()
    with pytest.raises(InvalidCredential) as raised:
        who(make(pipeline_token))
    assert (raised.value.reason, raised.value.method) == (reason, method)
    entry = Entry.objects.get()
    assert (entry.event, entry.reason, entry.actor, entry.method, entry.peer) == (
        "sign-in.refused",
        reason,
        claimed,
        method,
        CLIENT,
    )
    assert entry.actor_uid == "", "what is claimed is not proven"
    assert pipeline_token not in f"{entry.data}{entry.reason}{entry.target}{raised.value!r}"


@pytest.mark.parametrize("kind", ["bearer", "basic", "proxy"])
def test_promise_16_every_bad_credential_has_the_same_response_at_the_gateway(bob, pipeline_token, kind):
    lines = {
        "bearer": (bearer("sky_nonsense"), proxied()),
        "basic": (basic("bob@example.com", "x"), proxied()),
        "proxy": ([], proxied(subject="no address")),
    }[kind]
    assert judge(*lines) == judge(bearer(token_format.mint().plaintext), proxied())
    assert judge(*lines).status == 401


@pytest.mark.django_db
def test_an_unknown_user_is_not_created_where_that_is_switched_off(settings):
    settings.AUTH_CREATE_USERS = False
    with pytest.raises(InvalidCredential, match="not created at sign-in"):
        who(ProxyHeader("new@example.com"))
    assert not User.objects.exists()


def test_service_accounts_can_be_switched_off(settings, pipeline_token):
    settings.ENABLE_SERVICE_ACCOUNTS = False
    with pytest.raises(InvalidCredential, match="switched off"):
        who(Bearer(pipeline_token.encode()))


def test_basic_can_be_switched_off_and_the_login_form_still_works(settings, bob):
    settings.AUTH_BASIC = False
    with pytest.raises(InvalidCredential, match="switched off"):
        who(Basic("bob@example.com", PASSWORD))
    assert sign_in_with_password(Basic("bob@example.com", PASSWORD), CLIENT).name == "bob@example.com"
    answer = judge(basic("bob@example.com", PASSWORD), proxied())
    assert [value for name, value in answer.headers if name == b"www-authenticate"] == [b'Bearer realm="SkyAuth"']


def test_the_shared_credential_has_no_identity(settings, db):
    settings.AUTH_STRING = "team:$apr1$abcdefgh$" + "x" * 22
    shared = principals.shared("team", CLIENT)
    assert (shared.kind, shared.permissions, shared.identity, shared.pk, shared.owner) == (Kind.SHARED, UPSTREAM, "", None, None)
    assert shared.uid == "shared:team"


# the three name spaces


def test_promise_07_the_names_of_users_service_accounts_and_the_shared_credential_never_mix(
    bob, pipeline, pipeline_token, read_write
):
    seen = [
        who(Bearer(pipeline_token.encode())),
        who(Basic("bob@example.com", PASSWORD)),
        principals.shared("bob@example.com", CLIENT),
        principals.system("bob@example.com"),
        who(None),
    ]
    assert len({one.uid for one in seen}) == 5
    assert [one.identity for one in seen] == [f"pipeline@{pipeline.uid}", "bob@example.com", "", "", ""]
    for name in ("pipeline", pipeline.uid, f"pipeline@{pipeline.uid}"):
        with pytest.raises(InvalidCredential):
            who(Basic(name, pipeline_token))
        with pytest.raises(InvalidCredential):
            who(ProxyHeader(name))


@pytest.mark.parametrize(
    ("sign_in", "by_password", "by_proxy"), [(SignIn.PASSWORD, True, False), (SignIn.SSO, False, True), (SignIn.BOTH, True, True)]
)
def test_promise_07_a_user_of_one_sign_in_method_cannot_use_another(bob, sign_in, by_password, by_proxy):
    bob_row(sign_in=sign_in)
    for credential, good in ((Basic("bob@example.com", PASSWORD), by_password), (ProxyHeader("bob@example.com"), by_proxy)):
        if good:
            assert who(credential).pk == bob.pk
        else:
            with pytest.raises(InvalidCredential):
                who(credential)


# within the owner


def test_promise_30_a_service_account_never_has_more_permissions_than_its_owner(alice, system):
    account = ServiceAccountFactory(owner=alice, role=role("admin"))
    token = make_token(account)[1].encode()
    UserFactory(role=role("admin"))
    assert who(Bearer(token)).permissions == EVERYTHING
    for name in ("user", "viewer"):
        users.set_role(actor=system, user=alice, role=name)
        caller = who(Bearer(token))
        assert caller.permissions == role(name).holds
        assert caller.role == name, "an upstream that reads the role receives no greater one"
    ServiceAccount.objects.update(owner=None)
    assert (who(Bearer(token)).role, who(Bearer(token)).permissions) == ("admin", EVERYTHING)


def test_promise_30_the_effective_permissions_are_those_that_account_and_owner_both_hold(alice, system):
    one = rbac.create_role(actor=system, name="one", permissions=["audit:read", "upstream:read"])
    other = rbac.create_role(actor=system, name="other", permissions=["upstream:read", "upstream:write"])
    token = make_token(ServiceAccountFactory(owner=UserFactory(role=one), role=other))[1].encode()
    caller = who(Bearer(token))
    assert caller.permissions == PUBLIC | {"upstream:read"}
    assert caller.role == "", "no role has exactly these permissions"


@pytest.mark.parametrize(("account_role", "owner_role"), [("viewer", "user"), ("user", "user"), ("viewer", "admin")])
def test_a_service_account_within_its_owners_permissions_keeps_its_role(account_role, owner_role, db):
    account = ServiceAccountFactory(owner=UserFactory(role=role(owner_role)), role=role(account_role))
    caller = who(Bearer(make_token(account)[1].encode()))
    assert (caller.role, caller.permissions) == (account_role, role(account_role).holds)


# changes act on the next request


@pytest.mark.parametrize(
    "change",
    [
        lambda: token_row(revoked_at=timezone.now()),
        lambda: token_row(created_at=past(), expires_at=timezone.now()),
        lambda: pipeline_row(is_active=False),
        lambda: bob_row(is_active=False),
        lambda: User.objects.filter(username="bob@example.com").delete() and pipeline_row(is_active=False),
        lambda: ServiceAccount.objects.all().delete(),
    ],
)
def test_promise_14_a_stopped_token_is_refused_from_the_next_request_on(pipeline_token, read_write, change):
    assert judge(bearer(pipeline_token), proxied()).status == 200
    change()
    assert judge(bearer(pipeline_token), proxied()).status == 401


def test_promise_15_a_changed_role_applies_to_the_next_request(bob, pipeline_token, read_write, system):
    bob_row(sign_in="both")
    lines = (bearer(pipeline_token), basic("bob@example.com", PASSWORD))
    post = proxied("POST", "/x")
    assert [judge(line, post).status for line in lines] == [200, 200]
    users.set_role(actor=system, user=bob, role="viewer")
    assert [judge(line, post).status for line in lines] == [403, 403]
    assert judge([], proxied("POST", "/x", subject="bob@example.com")).status == 403
    rbac.update_role(actor=system, name="viewer", permissions=["upstream:read", "upstream:write"])
    assert judge(lines[1], post).status == 200


def test_promise_15_a_changed_route_applies_to_the_next_request(pipeline_token, read_write, system):
    assert judge(bearer(pipeline_token), proxied()).status == 200
    rbac.replace_routes(actor=system, specs=[], source="nowhere")
    assert judge(bearer(pipeline_token), proxied()).status == 403


def test_promise_13_a_new_account_of_the_same_name_does_not_revive_a_token(bob, pipeline, pipeline_token):
    pipeline.delete()
    again = ServiceAccountFactory(name="pipeline", owner=bob)
    assert again.uid != pipeline.uid
    with pytest.raises(InvalidCredential, match="unknown token"):
        who(Bearer(pipeline_token.encode()))


# noting the use


def test_a_tokens_last_use_is_written_once_a_minute(pipeline_token, time_machine):
    time_machine.move_to("2026-11-24T12:00:00Z", tick=False)
    who(Bearer(pipeline_token.encode()))
    first = Token.objects.get()
    assert (first.last_used_at, first.last_used_from) == (timezone.now(), CLIENT)
    time_machine.move_to("2026-11-24T12:00:59Z", tick=False)
    identify(Bearer(pipeline_token.encode()), client="203.0.113.9")
    assert Token.objects.get().last_used_at == first.last_used_at
    time_machine.move_to("2026-11-24T12:01:00Z", tick=False)
    identify(Bearer(pipeline_token.encode()), client="203.0.113.9")
    assert (Token.objects.get().last_used_at, Token.objects.get().last_used_from) == (timezone.now(), "203.0.113.9")


def test_a_users_last_visit_is_written_once_a_minute(bob, time_machine):
    time_machine.move_to("2026-11-24T12:00:00Z", tick=False)
    who(ProxyHeader("bob@example.com"))
    first = timezone.now()
    time_machine.move_to("2026-11-24T12:00:59Z", tick=False)
    who(ProxyHeader("bob@example.com"))
    assert User.objects.get().last_seen_at == first
    time_machine.move_to("2026-11-24T12:01:00Z", tick=False)
    who(ProxyHeader("bob@example.com"))
    assert User.objects.get().last_seen_at == timezone.now()


def test_the_last_use_of_a_refused_token_is_not_written(pipeline_token):
    token_row(revoked_at=timezone.now())
    with pytest.raises(InvalidCredential):
        who(Bearer(pipeline_token.encode()))
    assert Token.objects.get().last_used_at is None


def refuse_updates(table):
    """Make the database itself refuse to update a table: a real error, on either database."""
    if connection.vendor == "sqlite":
        return [f"CREATE TRIGGER no_update BEFORE UPDATE ON {table} BEGIN SELECT RAISE(ABORT, 'not now'); END"]
    return [
        "CREATE FUNCTION no_update() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$",
        f"CREATE TRIGGER no_update BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION no_update()",
    ]


def test_a_last_use_that_cannot_be_written_fails_no_request(bob, pipeline_token, read_write):
    with connection.cursor() as cursor:
        for statement in refuse_updates("accounts_token"):
            cursor.execute(statement)
    assert judge(bearer(pipeline_token), proxied()).status == 200
    assert Token.objects.get().last_used_at is None
    assert not Entry.objects.filter(event="request.denied").exists()


def test_a_connection_lost_while_writing_a_last_use_fails_no_request(pipeline_token):
    def lose(execute, sql, params, many, context):
        if sql.startswith("UPDATE"):
            raise InterfaceError("connection already closed")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(lose):
        assert who(Bearer(pipeline_token.encode())).name == "pipeline"


# sessions


@pytest.fixture
def session(client, bob):
    """The key of a browser session of bob's, begun by Django's own login."""
    assert client.login(username="bob@example.com", password=PASSWORD)
    return client.session.session_key


def test_a_session_authenticates_its_user(bob, session):
    person = who(SessionCookie(session))
    assert (person.kind, person.method, person.pk, person.name) == (Kind.USER, Method.SESSION, bob.pk, "bob@example.com")


def test_a_sign_in_is_recorded(bob, session):
    entry = Entry.objects.get(event="sign-in.succeeded")
    assert (entry.actor, entry.target, entry.method) == ("bob@example.com", "bob@example.com", "session")


ENDINGS = {
    "disabled": lambda store: bob_row(is_active=False),
    "deleted": lambda store: User.objects.all().delete(),
    "password changed": lambda store: bob_row(password=make_password("another good phrase")),
    "flushed": lambda store: store.flush(),
    "no mark of its beginning": lambda store: store.pop("skyauth_signed_in_at") and store.save(),
    "a mark that is none": lambda store: store.update({"skyauth_signed_in_at": "yesterday"}) or store.save(),
    "no hash": lambda store: store.pop("_auth_user_hash") and store.save(),
    "another hash": lambda store: store.update({"_auth_user_hash": "x"}) or store.save(),
    "no user": lambda store: store.pop("_auth_user_id") and store.save(),
    "a user that is no number": lambda store: store.update({"_auth_user_id": "x"}) or store.save(),
    "another user": lambda store: Row.objects.update(user=UserFactory()),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
def test_promise_14_an_ended_session_is_anonymous_from_the_next_request_on(client, session, end):
    store = client.session
    end(store)
    assert who(SessionCookie(session)) == principals.anonymous(CLIENT)


def test_promise_40_use_does_not_extend_the_age_limit_of_a_session(client, bob, settings, time_machine):
    time_machine.move_to("2026-11-24T12:00:00Z")
    client.login(username="bob@example.com", password=PASSWORD)
    key = client.session.session_key
    for hour in (6, 11):
        time_machine.shift(timedelta(hours=hour) if hour == 6 else timedelta(hours=5))
        assert who(SessionCookie(key)).pk == bob.pk
        store = client.session
        store["touched"] = hour
        store.set_expiry(settings.SESSION_COOKIE_AGE * 10)
        store.save()
    time_machine.shift(timedelta(hours=1, seconds=2))
    assert who(SessionCookie(key)) == principals.anonymous(CLIENT)


def test_promise_40_a_session_gets_a_new_key_at_sign_in(client, bob):
    store = client.session
    store["before"] = 1
    store.save()
    before = store.session_key
    client.cookies["skyauth"] = before
    client.login(username="bob@example.com", password=PASSWORD)
    assert client.session.session_key != before
    assert who(SessionCookie(before)) == principals.anonymous(CLIENT)


@pytest.mark.parametrize("key", ["", "x", "nosuchsession", "x" * 500, "0" * 32, "../../etc/passwd"])
def test_an_unknown_session_is_anonymous(db, key):
    assert who(SessionCookie(key)) == principals.anonymous(CLIENT)
    assert not Entry.objects.exists()


def test_a_group_name_that_cannot_be_stored_matches_no_group(db):
    assert selectors.role_of_groups(("nul\x00", "half\ud800", "")) is None
    assert who(ProxyHeader("new@example.com", "a\x00b,dev")).groups == ("a\x00b", "dev")
    assert identity(judge([], proxied(path="//", subject="new@example.com", groups="a\x00b")))["email"] == ""


def test_a_claimed_principal_has_no_permissions():
    claimed = principals.claimed("alice@example.com", "nonsense", CLIENT)
    assert (claimed.permissions, claimed.method, claimed.is_authenticated) == (frozenset(), Method.NONE, False)
    assert not claimed.holds("upstream:public")


def test_the_factory_of_these_tests_agrees_with_identify(bob):
    told = who(Basic("bob@example.com", PASSWORD))
    made = principal(bob, Method.BASIC)
    assert (made.uid, made.name, made.permissions, made.pk, made.owner) == (
        told.uid,
        told.name,
        told.permissions,
        told.pk,
        told.owner,
    )
