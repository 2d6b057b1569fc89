"""One canonical form for each name."""

import hashlib
from string import ascii_lowercase, ascii_uppercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from idna import IDNAError
from idna import encode as idna_encode

from accounts.identifiers import (
    BadName,
    account_uid,
    canonical_account_name,
    canonical_email,
    canonical_identity,
    canonical_username,
    contact_address,
    user_uid,
)

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


IDENTITIES = {  # what a provider sends, and the user whom it names; "" for nobody
    "an address": ("Alice@Example.COM", "alice@example.com"),
    "a host without a dot": ("me@localhost", "me@localhost"),
    "a host of one letter": ("me@x", "me@x"),
    "a host like a service account's": ("pipeline@sa-3b0c8a4d5e6f7081", ""),
    "such a host in capitals": ("pipeline@SA-3b0c8a4d5e6f7081", ""),
    "a domain under such a name": ("me@sa-3b0c.example.com", "me@sa-3b0c.example.com"),
    "an IDN": ("alice@b\u00fccher.example", "alice@xn--bcher-kva.example"),
    "an IDN in ASCII": ("alice@XN--bcher-kva.example", "alice@xn--bcher-kva.example"),
    "an IDN with ASCII capitals": ("Alice@B\u00fccher.EXAMPLE", "alice@xn--bcher-kva.example"),
    "an IDN of another script": (
        "alice@\u0438\u0441\u043f\u044b\u0442\u0430\u043d\u0438\u0435.example",
        "alice@xn--80akhbyknj4f.example",
    ),
    "an IDN with a mark": ("alice@\u092a\u0930\u0940\u0915\u094d\u0937\u093e.example", "alice@xn--11b5bs3a9aj6g.example"),
    "a letter that looks like another": ("alice@ex\u0430mple.com", "alice@xn--exmple-4nf.com"),
    "a capital outside ASCII": ("alice@B\u00dcCHER.example", ""),
    "a decomposed letter": ("alice@bu\u0308cher.example", ""),
    "a sharp s, which older software turns into ss": ("alice@stra\u00dfe.example", ""),
    "the Kelvin sign": ("alice@\u212aube.example", ""),
    "a full-width letter": ("alice@\uff45xample.com", ""),
    "a full-width dot": ("alice@example\uff0ecom", ""),
    "an ideographic dot": ("alice@example\u3002com", ""),
    "a full-width at sign": ("alice\uff20example.com", ""),
    "a zero-width space": ("alice@exam\u200bple.com", ""),
    "a joiner": ("alice@exam\u200dple.com", ""),
    "a symbol": ("alice@\u2603.example", ""),
    "a mark first": ("alice@\u0301a.example", ""),
    "a hyphen first": ("alice@-\u00fc.example", ""),
    "hyphens as in an A-label": ("alice@ab--\u00fc.example", ""),
    "an empty label": ("alice@b\u00fccher..example", ""),
    "a label that is too long": ("alice@" + "\u00fc" * 63 + ".example", ""),
    "a local part outside ASCII": ("alic\u00e9@example.com", ""),
    "half a surrogate pair": ("alice@\ud800.example", ""),
    "a plain name": ("alice", ""),
    "no host": ("alice@", ""),
    "nothing": ("", ""),
    "two addresses": ("alice@example.com, bob@example.com", ""),
    "an address and a host": ("alice@example.com@localhost", ""),
    "blanks": (" alice@example.com", ""),
    "a service account's name": ("sa-alice@example.com", ""),
    "a prefix that is not expected": ("accounts.google.com:alice@example.com", ""),
}


@pytest.mark.parametrize(("text", "name"), IDENTITIES.values(), ids=IDENTITIES)
def test_promise_05_an_identity_of_a_provider_is_one_address(text, name):
    if name:
        assert canonical_identity(text) == name == canonical_username(name)
        return
    with pytest.raises(BadName):
        canonical_identity(text)


PREFIX = "accounts.google.com:"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"{PREFIX}Alice@Example.com", "alice@example.com"),
        ("alice@example.com", ""),
        (f"{PREFIX.upper()}alice@example.com", ""),
        (f"{PREFIX}{PREFIX}alice@example.com", ""),
        (f" {PREFIX}alice@example.com", ""),
        (f"{PREFIX} alice@example.com", ""),
        ("securetoken.google.com/project:alice@example.com", ""),
        (PREFIX, ""),
    ],
)
def test_the_prefix_of_a_provider_is_removed_and_required(text, name):
    if name:
        assert canonical_identity(text, PREFIX) == name
        return
    with pytest.raises(BadName, match=r"accounts\.google\.com:alice@example\.com"):
        canonical_identity(text, PREFIX)


def idna(label):
    try:
        return f"alice@{idna_encode(label).decode()}.example"
    except IDNAError:
        return ""


@given(st.text(st.characters(min_codepoint=0x2D, max_codepoint=0x2FFF), min_size=1, max_size=12))
def test_promise_07_an_idn_has_the_a_label_that_idna_2008_gives_it_or_none(label):
    try:
        name = canonical_identity(f"alice@{label}.example")
    except BadName:
        return
    # The `idna` package is stricter about right-to-left text, and knows another version of Unicode. It never differs otherwise.
    assert idna(label.lower() if label.isascii() else label.translate(str.maketrans(ascii_uppercase, ascii_lowercase))) in (
        name,
        "",
    )


@pytest.mark.parametrize(("name", "address"), [("a@example.com", "a@example.com"), ("a@localhost", ""), ("alice", "")])
def test_a_name_is_a_contact_address_where_mail_can_be_sent_to_it(name, address):
    assert contact_address(name) == address


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
    + [text for text in NOT_AN_ADDRESS if "@" in text and text != "alice@localhost"],
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
