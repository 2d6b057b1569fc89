"""Names and passwords: how often they are hashed, the cache, the lockout. Cost is counted in calls, not in time."""

import threading

import bcrypt
import pytest
from axes.models import AccessAttempt
from django.contrib.auth.hashers import make_password
from django.core.exceptions import ValidationError
from passlib.apache import HtpasswdFile
from passlib.hash import sha512_crypt

from accounts.hashers import MAX_PASSWORD, Argon2idHasher, MaximumLengthValidator
from accounts.models import PolicyRevision, SignIn, User
from accounts.services import users
from audit.models import Entry
from authn import lockout, passwords
from authn.credentials import Basic, InvalidCredential
from authn.passwords import Busy, VerifiedPasswords, verify
from rbac.models import Role
from tests.factories import PASSWORD, UserFactory
from tests.verify_client import CLIENT, basic, identity, judge, proxied

SHARED_PASSWORD = "the team's own"
SHARED = f"team:{bcrypt.hashpw(SHARED_PASSWORD.encode(), bcrypt.gensalt(4)).decode()}"
BOB, TEAM = Basic("bob@example.com", PASSWORD), Basic("team", SHARED_PASSWORD)
ELSEWHERE = "203.0.113.50"


class Counter:
    """How many hashes were computed since `reset`, by kind."""

    def __init__(self) -> None:
        self.own = self.shared = 0

    def reset(self) -> None:
        self.own = self.shared = 0

    @property
    def both(self) -> tuple[int, int]:
        return (self.own, self.shared)


@pytest.fixture
def hashes(monkeypatch):
    """Counts the password hashes that are really computed."""
    passwords._dummy_hash()  # made once in a process, and not a part of any one request
    counter = Counter()
    verify_own, check_shared = Argon2idHasher.verify, HtpasswdFile.check_password

    def own(self, password, encoded):
        counter.own += 1
        return verify_own(self, password, encoded)

    def shared(self, user, password, *args):
        counter.shared += 1
        return check_shared(self, user, password, *args)

    monkeypatch.setattr(Argon2idHasher, "verify", own)
    monkeypatch.setattr(HtpasswdFile, "check_password", shared)
    return counter


def refused(username, password, client=CLIENT):
    """Return why a name and a password are refused."""
    with pytest.raises(InvalidCredential) as raised:
        verify(Basic(username, password), client)
    assert raised.value.method == "basic"
    return raised.value.reason


def again_wrong(username, times, client=CLIENT):
    for n in range(times):
        refused(username, f"wrong {n}", client)


def test_a_users_own_password_is_accepted(bob):
    assert verify(BOB, CLIENT).pk == bob.pk
    assert verify(Basic("BOB@Example.com", PASSWORD), CLIENT).pk == bob.pk


def test_the_shared_password_belongs_to_no_user(settings, bob):
    settings.AUTH_STRING = SHARED
    assert verify(TEAM, CLIENT) is None
    assert verify(BOB, CLIENT).pk == bob.pk
    assert refused("Team", SHARED_PASSWORD) == "unknown user", "the shared name has one spelling"
    assert refused("team", PASSWORD) == "wrong password"


@pytest.mark.django_db
def test_several_shared_credentials_can_be_configured(settings):
    settings.AUTH_STRING = f"{SHARED} other:{sha512_crypt.using(rounds=1_000).hash('x' * 100)}"
    assert verify(TEAM, CLIENT) is None
    assert verify(Basic("other", "x" * 100), CLIENT) is None
    assert refused("other", SHARED_PASSWORD) == "wrong password"
    assert refused("team", "x" * 100) == "wrong password"


def disable(user):
    User.objects.filter(pk=user.pk).update(is_active=False)


def sso_only(user):
    User.objects.filter(pk=user.pk).update(sign_in=SignIn.SSO)


def unusable(user):
    User.objects.filter(pk=user.pk).update(sign_in=SignIn.SSO, password=make_password(None))


REFUSALS = {
    "unknown": (None, "mallory@example.com", "wrong", "unknown user"),
    "unknown, and no name at all": (None, "no such: né", "wrong", "unknown user"),
    "a very long name": (None, "x" * 1_000, "wrong", "unknown user"),
    "a very long name of wide characters": (None, "é" * 250, "wrong", "unknown user"),
    "a service account's name": (None, "pipeline", "wrong", "unknown user"),
    "wrong": (None, "bob@example.com", "wrong", "wrong password"),
    "wrong and empty": (None, "bob@example.com", "", "wrong password"),
    "wrong and longer than bcrypt takes": (None, "bob@example.com", "y" * 73, "wrong password"),
    "wrong and longer than any password": (None, "bob@example.com", "y" * (MAX_PASSWORD + 1), "wrong password"),
    "disabled, with the right password": (disable, "bob@example.com", PASSWORD, "disabled"),
    "disabled, with a wrong password": (disable, "bob@example.com", "wrong", "disabled"),
    "by single sign-on only": (sso_only, "bob@example.com", PASSWORD, "wrong password"),
    "without a password": (unusable, "bob@example.com", "", "wrong password"),
}


@pytest.mark.parametrize("auth_string", ["", SHARED], ids=["own", "own and shared"])
@pytest.mark.parametrize(("prepare", "username", "password", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_promise_19_every_refusal_costs_the_same_hashes(
    settings, hashes, bob, pipeline, auth_string, prepare, username, password, reason
):
    settings.AUTH_STRING = auth_string
    if prepare:
        prepare(bob)
    assert refused(username, password) == reason
    assert hashes.both == (1, 1 if auth_string else 0)


@pytest.mark.parametrize("password", ["wrong", "", "y" * 73, "y" * 2_000])
def test_promise_19_a_wrong_shared_password_costs_the_same_hashes(settings, hashes, bob, password):
    settings.AUTH_STRING = SHARED
    assert refused("team", password) == "wrong password"
    assert hashes.both == (1, 1)


@pytest.mark.parametrize("auth_string", ["", SHARED], ids=["own", "own and shared"])
def test_promise_19_all_refusals_have_the_same_response(settings, bob, auth_string):
    settings.AUTH_STRING = auth_string
    answers = {judge(basic(name, password), proxied()) for prepare, name, password, _ in REFUSALS.values() if not prepare}
    disable(bob)
    answers.add(judge(basic("bob@example.com", PASSWORD), proxied()))
    answers.add(judge(basic("team", "wrong"), proxied()))
    answers.add(judge([(b"authorization", b"Basic !")], proxied()))
    assert {answer.status for answer in answers} == {401}
    assert len(answers) == 1


# remembering


def test_promise_20_a_verified_password_is_hashed_once_and_cached(settings, hashes, bob):
    settings.AUTH_STRING = SHARED
    for _ in range(4):
        assert verify(BOB, CLIENT).pk == bob.pk
    assert hashes.own == 1
    hashes.reset()
    for _ in range(4):
        assert verify(TEAM, CLIENT) is None
    assert hashes.shared == 1


def test_a_cached_password_expires(settings, hashes, bob, monkeypatch):
    class Clock:
        now = 1_000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(passwords, "time", clock)
    settings.AUTH_REMEMBER_SECONDS = 300
    verify(BOB, CLIENT)
    clock.now += 299
    verify(BOB, CLIENT)
    assert hashes.own == 1
    clock.now += 1
    verify(BOB, CLIENT)
    assert hashes.own == 2


def test_the_password_cache_can_be_switched_off(settings, hashes, bob):
    settings.AUTH_REMEMBER_SECONDS = 0
    verify(BOB, CLIENT)
    verify(BOB, CLIENT)
    assert hashes.own == 2


def test_a_wrong_password_is_not_cached_beside_a_verified_one(hashes, bob):
    verify(BOB, CLIENT)
    assert refused("bob@example.com", PASSWORD + "x") == "wrong password"
    assert refused("bob@example.com", PASSWORD + "x") == "wrong password"
    assert hashes.own == 3


def test_promise_14_a_changed_password_is_refused_at_once(bob, system):
    verify(BOB, CLIENT)
    users.set_password(actor=system, user=bob, password="another good phrase")
    assert refused(*BOB_PAIR) == "wrong password"
    assert verify(Basic("bob@example.com", "another good phrase"), CLIENT).pk == bob.pk


BOB_PAIR = ("bob@example.com", PASSWORD)


@pytest.mark.parametrize(
    ("change", "reason"), [(disable, "disabled"), (sso_only, "wrong password"), (User.delete, "unknown user")]
)
def test_promise_14_a_disabled_user_is_refused_at_once(bob, change, reason):
    verify(BOB, CLIENT)
    change(bob)
    assert refused(*BOB_PAIR) == reason


def test_promise_14_a_changed_shared_password_is_refused_at_once(settings, bob):
    settings.AUTH_STRING = SHARED
    verify(TEAM, CLIENT)
    settings.AUTH_STRING = f"team:{bcrypt.hashpw(b'new', bcrypt.gensalt(4)).decode()}"
    assert refused("team", SHARED_PASSWORD) == "wrong password"
    settings.AUTH_STRING = ""
    assert refused("team", SHARED_PASSWORD) == "unknown user"


def test_promise_15_a_user_with_a_cached_password_has_the_current_role(bob):
    assert verify(BOB, CLIENT).role == "user"
    User.objects.filter(pk=bob.pk).update(role=Role.objects.get(name="viewer"))
    assert verify(BOB, CLIENT).role == "viewer"


def test_the_password_cache_is_bounded_and_drops_the_least_recently_used(monkeypatch):
    monkeypatch.setattr(VerifiedPasswords, "MAX", 3)
    cache = VerifiedPasswords()
    first, *others = [cache.digest(Basic("bob", str(n)), "hash") for n in range(4)]
    cache.add(first)
    for digest in others[:2]:
        cache.add(digest)
    assert cache.hit(first), "used again, so no longer the oldest"
    cache.add(others[2])
    assert [cache.hit(digest) for digest in (first, *others)] == [True, False, True, True]


def test_promise_42_the_password_cache_contains_keyed_digests_only():
    one, other = VerifiedPasswords(), VerifiedPasswords()
    credential = Basic("bob", "secret")
    assert one.digest(credential, "hash") == one.digest(credential, "hash")
    assert one.digest(credential, "hash") != other.digest(credential, "hash"), "each process has a key of its own"
    assert one.digest(Basic("bo", "bsecret"), "hash") != one.digest(credential, "hash"), "the parts cannot shift"
    assert len({one.digest(Basic(a, b), c) for a, b, c in (("x", "", ""), ("", "x", ""), ("", "", "x"))}) == 3


# slots


def test_promise_21_hashing_is_limited_and_then_raises_busy(settings, bob, monkeypatch):
    monkeypatch.setattr(passwords, "_slots", threading.BoundedSemaphore(1))
    monkeypatch.setattr(passwords, "WAIT_SECONDS", 0)
    with passwords._slot():
        with pytest.raises(Busy):
            verify(BOB, CLIENT)
        answer = judge(basic(*BOB_PAIR), proxied())
        assert answer.status == 503
    assert not AccessAttempt.objects.exists(), "being busy is no failure of the caller's"
    assert verify(BOB, CLIENT).pk == bob.pk


def test_promise_21_few_requests_wait_for_a_slot(bob, monkeypatch):
    monkeypatch.setattr(passwords, "_queue", threading.BoundedSemaphore(1))
    with passwords._slot(), pytest.raises(Busy, match="waiting"):
        verify(BOB, CLIENT)
    assert verify(BOB, CLIENT).pk == bob.pk


def test_a_slot_is_released_when_hashing_fails(bob, monkeypatch):
    monkeypatch.setattr(passwords, "_slots", threading.BoundedSemaphore(1))
    monkeypatch.setattr(passwords, "_queue", threading.BoundedSemaphore(1))
    for _ in range(3):
        refused("bob@example.com", "wrong")
    with pytest.raises(ZeroDivisionError), passwords._slot():
        _ = 1 / 0
    assert verify(BOB, CLIENT)


def test_a_cached_password_needs_no_slot(bob, monkeypatch):
    verify(BOB, CLIENT)
    monkeypatch.setattr(passwords, "WAIT_SECONDS", 0)
    monkeypatch.setattr(passwords, "_slots", threading.BoundedSemaphore(1))
    with passwords._slot():
        assert verify(BOB, CLIENT).pk == bob.pk


# throttling


def test_promise_21_five_wrong_passwords_lock_the_name_and_address_out(settings, hashes, bob):
    again_wrong("bob@example.com", settings.AUTH_FAILURE_LIMIT)
    hashes.reset()
    assert refused(*BOB_PAIR) == "too many failures; must wait"
    assert hashes.both == (0, 0), "who must wait costs us no hash"
    assert judge(basic(*BOB_PAIR), proxied()) == judge(basic("mallory@example.com", "x"), proxied())


def test_promise_21_another_address_cannot_lock_a_user_out(settings, bob):
    again_wrong("bob@example.com", settings.AUTH_FAILURE_LIMIT + 3, client=ELSEWHERE)
    assert refused(*BOB_PAIR, client=ELSEWHERE) == "too many failures; must wait"
    assert verify(BOB, CLIENT).pk == bob.pk


@pytest.mark.parametrize("spelling", ["BOB@example.com", "bob@EXAMPLE.com", "Bob@Example.Com"])
def test_promise_22_another_spelling_of_the_name_counts_as_the_same(settings, bob, spelling):
    again_wrong("bob@example.com", settings.AUTH_FAILURE_LIMIT)
    assert refused(spelling, PASSWORD) == "too many failures; must wait"


def test_promise_21_spraying_many_names_locks_the_address_out(settings, bob):
    settings.AUTH_FAILURE_LIMIT_PER_ADDRESS = 6
    for n in range(6):
        refused(f"name{n}@example.com", "Spring2026!")
    assert refused(*BOB_PAIR) == "too many failures; must wait"
    assert verify(BOB, ELSEWHERE).pk == bob.pk


def test_promise_22_a_success_clears_the_failures_of_its_own_pair_only(settings, bob, vera):
    again_wrong("bob@example.com", 4)
    again_wrong("bob@example.com", 4, client=ELSEWHERE)
    again_wrong("vera@example.com", 4)
    verify(BOB, CLIENT)
    left = {(row.username, row.ip_address): row.failures_since_start for row in AccessAttempt.objects.all()}
    assert left == {("bob@example.com", ELSEWHERE): 4, ("vera@example.com", CLIENT): 4}
    again_wrong("bob@example.com", 4)
    assert verify(BOB, CLIENT), "four again are four, not eight"


def test_promise_21_a_token_is_not_locked_out(settings, bob, pipeline_token, read_write):
    settings.AUTH_FAILURE_LIMIT_PER_ADDRESS = 3
    again_wrong("mallory@example.com", 3)
    assert lockout.is_locked_out("bob@example.com", CLIENT)
    assert judge([(b"authorization", b"Bearer " + pipeline_token.encode())], proxied()).status == 200


@pytest.mark.parametrize("client", [CLIENT, ELSEWHERE], ids=["the owner's address", "another address"])
@pytest.mark.parametrize("name", ["bob@example.com", "mallory@example.com"], ids=["the name", "the address"])
def test_promise_51_a_cached_password_is_refused_where_its_check_would_be(settings, hashes, bob, client, name):
    settings.AUTH_FAILURE_LIMIT_PER_ADDRESS = settings.AUTH_FAILURE_LIMIT
    verify(BOB, CLIENT)  # the owner's own request
    again_wrong(name, settings.AUTH_FAILURE_LIMIT, client)
    hashes.reset()
    assert refused(*BOB_PAIR, client) == "too many failures; must wait"
    assert hashes.both == (0, 0)


@pytest.mark.django_db
def test_promise_51_a_cached_shared_password_is_refused_where_its_check_would_be(settings):
    settings.AUTH_STRING = SHARED
    verify(TEAM, CLIENT)
    again_wrong("team", settings.AUTH_FAILURE_LIMIT, ELSEWHERE)
    assert refused("team", SHARED_PASSWORD, ELSEWHERE) == "too many failures; must wait"
    assert verify(TEAM, CLIENT) is None


def policy_revision():
    return PolicyRevision.objects.get().value


def test_promise_51_a_lockout_and_no_other_failure_changes_the_policy_revision(settings, bob):
    before = policy_revision()
    again_wrong("bob@example.com", settings.AUTH_FAILURE_LIMIT - 1)
    assert policy_revision() == before, "a stranger's few wrong passwords clear no cache"
    again_wrong("bob@example.com", 1)
    locked_out = policy_revision()
    assert locked_out != before
    again_wrong("bob@example.com", 3)
    assert policy_revision() == locked_out, "nor does what a locked-out client tries"


def test_promise_51_the_lockout_of_an_address_changes_the_policy_revision(settings, bob):
    settings.AUTH_FAILURE_LIMIT_PER_ADDRESS = 3
    for n in range(2):
        refused(f"name{n}@example.com", "Spring2026!")
    before = policy_revision()
    refused("name2@example.com", "Spring2026!")
    assert policy_revision() != before


def test_promise_21_a_lockout_expires(settings, bob, time_machine):
    time_machine.move_to("2026-11-24T12:00:00Z")
    again_wrong("bob@example.com", settings.AUTH_FAILURE_LIMIT)
    time_machine.move_to("2026-11-24T12:14:00Z")
    assert refused(*BOB_PAIR) == "too many failures; must wait"
    time_machine.move_to("2026-11-24T12:16:00Z")
    assert verify(BOB, CLIENT).pk == bob.pk


def test_promise_22_attempts_during_a_lockout_do_not_extend_it(settings, bob, time_machine):
    time_machine.move_to("2026-11-24T12:00:00Z")
    again_wrong("bob@example.com", settings.AUTH_FAILURE_LIMIT)
    for minute in (5, 10, 14):
        time_machine.move_to(f"2026-11-24T12:{minute:02}:00Z")
        refused("bob@example.com", "again")
    time_machine.move_to("2026-11-24T12:16:00Z")
    assert verify(BOB, CLIENT).pk == bob.pk


@pytest.mark.parametrize("again", ["enabled", "new password"])
def test_a_user_whom_an_admin_lets_in_again_need_not_wait(settings, bob, system, again):
    users.set_active(actor=system, user=bob, active=False)
    again_wrong("bob@example.com", settings.AUTH_FAILURE_LIMIT)
    again_wrong("vera@example.com", settings.AUTH_FAILURE_LIMIT)
    if again == "new password":
        users.set_password(actor=system, user=bob, password="another good passphrase")
    users.set_active(actor=system, user=bob, active=True)
    password = "another good passphrase" if again == "new password" else BOB_PAIR[1]
    assert verify(Basic("bob@example.com", password), CLIENT).pk == bob.pk
    assert refused("vera@example.com", "again") == "too many failures; must wait", "and nobody else"


@pytest.mark.django_db
@pytest.mark.parametrize("typed", ["correct horse battery staple", "x" * 1_000, "sécret", "a b"])
def test_promise_42_an_unknown_name_is_not_recorded(typed):
    judge(basic(typed, "x"), proxied())
    refused(typed, "x")
    row = AccessAttempt.objects.get()
    assert row.failures_since_start == 2
    assert typed not in row.username
    assert len(row.username) < 255
    assert Entry.objects.get().actor == "unknown"


def test_a_users_name_is_recorded_with_the_reason(bob):
    judge(basic("bob@example.com", "wrong"), proxied())
    entry = Entry.objects.get()
    assert (entry.event, entry.actor, entry.reason, entry.peer) == (
        "sign-in.refused",
        "bob@example.com",
        "wrong password",
        CLIENT,
    )
    assert AccessAttempt.objects.get().username == "bob@example.com"


@pytest.mark.parametrize("client", ["", "2001:db8::1", "fe80::1%eth0", "::ffff:192.0.2.7"])
def test_promise_22_failures_of_every_form_of_address_are_counted(settings, bob, client):
    again_wrong("bob@example.com", settings.AUTH_FAILURE_LIMIT, client=client)
    assert refused(*BOB_PAIR, client=client) == "too many failures; must wait"
    AccessAttempt.objects.update(failures_since_start=settings.AUTH_FAILURE_LIMIT - 1)
    assert verify(BOB, client).pk == bob.pk
    assert not AccessAttempt.objects.exists(), "and a good password forgives it"


def test_promise_22_the_addresses_of_one_ipv6_network_count_as_one(settings, bob):
    for n in range(settings.AUTH_FAILURE_LIMIT):
        again_wrong("bob@example.com", 1, client=f"2001:db8:0:7::{n + 1:x}")
    assert refused(*BOB_PAIR, client="2001:db8:0:7:ffff::1") == "too many failures; must wait"
    assert verify(BOB, "2001:db8:0:8::1").pk == bob.pk, "failures of one network do not lock another one out"


def test_the_shared_credential_gives_no_identity(settings, read_write):
    settings.AUTH_STRING = SHARED
    answer = judge(basic("team", SHARED_PASSWORD), proxied("DELETE", "/x"))
    assert answer.status == 200
    assert identity(answer) == {"email": "", "user": "", "groups": "", "role": "", "method": "shared"}


# hashes and their rules


def test_promise_20_passwords_are_hashed_by_argon2id_at_the_recommended_cost(hashing_cost, bob):
    user = UserFactory(password=make_password("another good phrase"))
    assert user.password.startswith("argon2$argon2id$v=19$m=19456,t=2,p=1$")


@pytest.mark.parametrize("password", ["x" * (MAX_PASSWORD + 1), "line\nfeed is long enough", "nul\x00 is long enough", "del\x7f"])
def test_a_password_that_cannot_be_sent_back_is_refused(password):
    with pytest.raises(ValidationError):
        MaximumLengthValidator().validate(password)


def test_a_long_password_of_any_characters_is_accepted():
    MaximumLengthValidator().validate("é€ " * 300)
    assert str(MAX_PASSWORD) in MaximumLengthValidator().get_help_text()
