"""Reading the credential of a request: at most one, and the first kind that is present."""

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authn.credentials import MAX_BASIC, Basic, Bearer, InvalidCredential, ProxyHeader, SessionCookie, read
from authn.proxy_headers import ProxyInfo
from tests.examples import examples
from tests.verify_client import FOREIGN

NAMED = ProxyInfo(trusted=True, subject="alice@example.com", groups="dev")
NOBODY = ProxyInfo(trusted=True)
TOKEN = b"sky_abc"


def look(*authorization, proxied=NOBODY, mode=(), session_key=None, basic=True):
    return read(authorization=authorization, auth_mode=mode, proxied=proxied, session_key=session_key, basic=basic)


def b64(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    ("authorization", "proxied", "session_key", "expected"),
    [
        ((), NOBODY, None, None),
        ((), NOBODY, "", None),
        ((), NOBODY, "abc", SessionCookie("abc")),
        ((), NAMED, "abc", ProxyHeader("alice@example.com", "dev")),
        ((b"Bearer sky_abc",), NAMED, "abc", Bearer(TOKEN)),
        ((b"Basic " + b64("bob:pw"),), NAMED, "abc", Basic("bob", "pw")),
        ((b"bEARER   sky_abc  ",), NOBODY, None, Bearer(TOKEN)),
        ((b"BASIC  " + b64("bob:pw"),), NOBODY, None, Basic("bob", "pw")),
    ],
)
def test_promise_08_the_first_kind_of_credential_present_is_used(authorization, proxied, session_key, expected):
    assert look(*authorization, proxied=proxied, session_key=session_key) == expected


@pytest.mark.parametrize("proxied", [NOBODY, NAMED], ids=["alone", "with-proxy"])
@pytest.mark.parametrize(
    "value",
    [
        b"Bearer sky_a b",
        b"Bearer sky_abc, Bearer sky_def",
        b"Bearer sky_\xc3\xa9",
        b"Bearer sky_abc\t",
        b"Bearer\tsky_abc",
        b"Bearer \tsky_abc",
        b"bearer sky_=a",
        b"Basic",
        b"Basic ",
        b"Basic\t" + b64("bob:pw"),
        b"basic !!!!",
        b"Basic " + b64("bob"),
        b"Basic " + b64(":pw"),
        b"Basic " + b64("bob:p\x00w"),
        b"Basic " + b64("bob:p\nw"),
        b"Basic " + b64("b\x7fob:pw"),
        b"Basic " + b64(b"b\xffob:pw"),
        b"Basic " + b64("bob:pw") + b"===",
        b"Basic " + b64("bob:pw").rstrip(b"=") + b"*",
        b"Basic " + b64("bob:pw") + b" " + b64("bob:pw"),
        b"Basic " + b64("bob:" + "x" * MAX_BASIC),
        b"Basic Ym9iO",
    ],
)
def test_promise_08_a_malformed_credential_is_refused_beside_any_other(value, proxied):
    with pytest.raises(InvalidCredential):
        look(value, proxied=proxied, session_key="abc")


BASIC_LIKE = [
    b"Basic " + b64("bob:pw"),
    b"basic " + b64("other-service:key"),
    b"Basic",
    b"Basic !!!!",
    b"Basic\t" + b64("bob:pw"),
]


@pytest.mark.parametrize(("basic", "value"), [*((True, value) for value in FOREIGN), *((False, value) for value in BASIC_LIKE)])
def test_promise_08_a_foreign_credential_is_ignored_where_a_session_or_a_proxy_names_the_user(basic, value):
    assert look(value, proxied=NAMED, session_key="abc", basic=basic) == ProxyHeader("alice@example.com", "dev")
    assert look(value, session_key="abc", basic=basic) == SessionCookie("abc", beside_foreign=True)
    with pytest.raises(InvalidCredential, match="not of this service"):
        look(value, basic=basic)


@pytest.mark.parametrize("value", BASIC_LIKE[2:])
@pytest.mark.parametrize("proxied", [NOBODY, NAMED])
def test_promise_08_a_malformed_basic_credential_is_ours_where_basic_is_on(value, proxied):
    with pytest.raises(InvalidCredential, match="malformed"):
        look(value, proxied=proxied, session_key="abc")


@pytest.mark.parametrize("value", [b"Bearer sky_abc", b"bearer  sky_abc"])
@pytest.mark.parametrize("proxied", [NOBODY, NAMED])
def test_promise_08_a_token_of_ours_decides_beside_any_other_credential(value, proxied):
    assert look(value, proxied=proxied, session_key="abc", basic=False) == Bearer(TOKEN)


@pytest.mark.parametrize(
    "values",
    [
        (b"Bearer sky_abc", b"Bearer sky_abc"),
        (b"Basic " + b64("a:b"), b"Bearer sky_abc"),
        (b"", b""),
        (b"Digest x", b"Digest x"),
    ],
)
@pytest.mark.parametrize("proxied", [NOBODY, NAMED])
def test_promise_08_two_authorization_headers_are_refused(values, proxied):
    with pytest.raises(InvalidCredential, match="more than one"):
        look(*values, proxied=proxied)


def test_promise_04_bad_identity_headers_are_a_bad_credential_beside_any_other():
    with pytest.raises(InvalidCredential, match="repeated") as raised:
        look(b"Bearer sky_abc", proxied=ProxyInfo(trusted=True, fault="the identity header is repeated"), session_key="abc")
    assert raised.value.method == "proxy"


@pytest.mark.parametrize("mode", [(b"token",), (b"TOKEN",), (b" Token ",), (b"other", b"token")])
@pytest.mark.parametrize(
    ("authorization", "proxied"), [((), NOBODY), ((), NAMED), ((b"Basic " + b64("a:b"),), NAMED), ((b"Bearer foreign",), NAMED)]
)
def test_auth_mode_token_accepts_only_a_token(mode, authorization, proxied):
    with pytest.raises(InvalidCredential, match="auth mode"):
        look(*authorization, proxied=proxied, mode=mode, session_key="abc")


@pytest.mark.parametrize("mode", [(b"token",), (b"",), (b"session",), ()])
def test_a_token_is_accepted_in_every_auth_mode(mode):
    assert look(b"Bearer sky_abc", mode=mode) == Bearer(TOKEN)


def test_another_auth_mode_changes_nothing():
    assert look(proxied=NAMED, mode=(b"basic", b"")) == ProxyHeader("alice@example.com", "dev")


@pytest.mark.parametrize(
    ("text", "username", "password"),
    [
        ("bob:pw", "bob", "pw"),
        ("bob:", "bob", ""),
        ("bob:a:b:", "bob", "a:b:"),
        ("b b: p w ", "b b", " p w "),
        ("zoë:pässwörd€", "zoë", "pässwörd€"),
        ("bob:\u0085", "bob", "\u0085"),  # a C1 control is a character to RFC 7617; only CTL of RFC 5234 is refused
    ],
)
def test_promise_18_the_first_colon_splits_and_the_text_is_utf8(text, username, password):
    assert look(b"Basic " + b64(text)) == Basic(username, password)


@pytest.mark.parametrize(
    "credential", [Bearer(b"sky_secret"), Basic("bob", "secret"), ProxyHeader("secret"), SessionCookie("secret")]
)
def test_promise_42_no_credential_shows_its_secret(credential):
    assert "secret" not in repr(credential)
    assert "secret" not in str(credential)


SCHEMES = st.sampled_from([b"", b"Bearer ", b"bearer sky_", b"Basic ", b"basic\t", b"Digest ", b"Bearer"])
VALUES = st.builds(lambda a, b: a + b, SCHEMES, st.one_of(st.binary(max_size=60), st.binary(max_size=40).map(base64.b64encode)))


@settings(deadline=None, max_examples=examples(300))
@given(
    authorization=st.lists(VALUES, max_size=3),
    mode=st.lists(st.one_of(st.just(b"token"), st.binary(max_size=8)), max_size=2),
    subject=st.one_of(st.none(), st.text(max_size=20)),
    fault=st.sampled_from(["", "bad"]),
    session_key=st.one_of(st.none(), st.text(max_size=8)),
)
def test_reading_raises_nothing_but_invalid_credential(authorization, mode, subject, fault, session_key):
    proxied = ProxyInfo(trusted=True, subject=subject, fault=fault)
    try:
        found = read(authorization=authorization, auth_mode=mode, proxied=proxied, session_key=session_key, basic=True)
    except InvalidCredential:
        return
    assert found is None or isinstance(found, Bearer | Basic | ProxyHeader | SessionCookie)
    if len(authorization) == 1 and authorization[0][:6].lower() in (b"basic ", b"basic\t"):
        assert isinstance(found, Basic), "a Basic credential decides or is refused; it never gives way"
    if isinstance(found, Basic):
        assert found.username
        assert ":" not in found.username
        assert not any(ord(c) < 0x20 or ord(c) == 0x7F for c in found.username + found.password)
