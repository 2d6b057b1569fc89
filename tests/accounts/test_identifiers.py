"""One canonical form for each name."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.identifiers import BadName, account_uid, canonical_account_name, canonical_email, canonical_username, user_uid

NOT_AN_ADDRESS = [
    "",
    "alice",
    "@example.com",
    "alice@",
    "alice@localhost",
    "alice@@example.com",
    "alice@example.com@evil.example",
    "alice@example.com,bob@example.com",
    "alice@example.com ",
    " alice@example.com",
    "alice@example.com\n",
    "alice@example..com",
    "alice@.example.com",
    "alice@example.com.",
    "alice@-example.com",
    "alice@example-.com",
    ".alice@example.com",
    "alice.@example.com",
    "al..ice@example.com",
    '"alice"@example.com',
    "alice(x)@example.com",
    "alice@[192.0.2.1]",
    "Alice <alice@example.com>",
    "alice@example.com\x00",
    "alice;@example.com",
    "alicé@example.com",
    "\u212aube@example.com",  # KELVIN SIGN, which lower() turns into k
    "alice@ex\u0430mple.com",
    "alice@example.com\u200b",
    "a" * 64 + "@" + "b" * 63 + "." + "c" * 63 + "." + "d" * 63,
    "alice@" + "b" * 64 + ".com",
]


@pytest.mark.parametrize("text", NOT_AN_ADDRESS)
def test_promise_05_what_is_not_exactly_one_address_is_refused(text):
    with pytest.raises(BadName, match=r"alice@example\.com"):
        canonical_email(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("alice@example.com", "alice@example.com"),
        ("ALICE@Example.COM", "alice@example.com"),
        ("a.b+c_d-e!#$%&'*/=?^`{|}~@sub.example.co.uk", "a.b+c_d-e!#$%&'*/=?^`{|}~@sub.example.co.uk"),
        ("1@2.3", "1@2.3"),
    ],
)
def test_an_address_has_one_spelling(text, canonical):
    assert canonical_email(text) == canonical
    assert canonical_username(text) == canonical


@pytest.mark.parametrize(
    ("text", "canonical"), [("alice", "alice"), ("Alice.B+c_d-e9", "alice.b+c_d-e9"), ("a", "a"), ("7", "7")]
)
def test_a_plain_name_has_one_spelling(text, canonical):
    assert canonical_username(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "",
        " alice",
        "alice ",
        ".alice",
        "alice.",
        "al ice",
        "al:ice",
        "al/ice",
        "alice\n",
        "alíce",
        "sa-x",
        "SA-x",
        "sa-@example.com",
        "a" * 255,
    ]
    + [text for text in NOT_AN_ADDRESS if "@" in text],
)
def test_what_is_no_user_name_is_refused(text):
    with pytest.raises(BadName):
        canonical_username(text)


@pytest.mark.parametrize(
    ("text", "canonical"), [("pipeline", "pipeline"), (" CI.build_7-x ", "ci.build_7-x"), ("a" * 64, "a" * 64)]
)
def test_an_account_name_has_one_spelling(text, canonical):
    assert canonical_account_name(text) == canonical


@pytest.mark.parametrize("text", ["", "7up", "-a", "a" * 65, "a b", "a@b.c", "sa-a", "SA-a", "é", "a\nb", "a+b"])
def test_what_is_no_account_name_is_refused(text):
    with pytest.raises(BadName, match="service account"):
        canonical_account_name(text)


def test_a_users_id_is_what_skypilot_derives():
    assert user_uid("alice@example.com") == hashlib.md5(b"alice@example.com").hexdigest()[:8]  # noqa: S324 - SkyPilot's
    assert user_uid("alice@example.com", 1) == hashlib.md5(b"alice@example.com#1").hexdigest()[:8]  # noqa: S324
    assert len({user_uid("alice@example.com", n) for n in range(20)}) == 20


def test_an_accounts_id_is_random_and_in_a_name_space_of_its_own():
    ids = {account_uid() for _ in range(100)}
    assert len(ids) == 100
    assert all(uid.startswith("sa-") and len(uid) == 19 for uid in ids)


NAMES = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"\A[A-Za-z0-9._+-]{1,20}@[A-Za-z0-9.-]{1,20}\Z"),
    st.from_regex(r"\A[A-Za-z0-9._-]{1,70}\Z"),
)


@settings(deadline=None)
@given(NAMES)
@pytest.mark.parametrize("canonical", [canonical_email, canonical_username, canonical_account_name])
def test_a_canonical_name_is_its_own_canonical_name(canonical, text):
    try:
        name = canonical(text)
    except BadName:
        return
    assert canonical(name) == name
    assert name.isascii()
    assert name == name.lower()
    assert canonical(name.upper()) == name
    assert not name.startswith("sa-") or canonical is canonical_email
