"""Signed assertions, with real keys, a real key file and a real key server."""

import base64
import hashlib
import hmac
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from accounts.models import User
from audit.models import Entry
from authn import provider_keys
from authn.credentials import InvalidCredential
from authn.jwt_verify import verify
from authn.provider_keys import KeysUnavailable
from tests.verify_client import identity, judge, proxied

ISSUER, AUDIENCE = "https://idp.example.com", "skyauth"
RSA = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
WRONG = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
STRANGER = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
KEYS = {
    "keys": [
        {**RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True), "kid": "rsa", "use": "sig", "alg": "RS256"},
        {**RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True), "kid": "rsa-any", "use": "sig"},
        {**ECAlgorithm.to_jwk(EC.public_key(), as_dict=True), "kid": "ec", "alg": "ES256"},
        {**OKPAlgorithm.to_jwk(ED.public_key(), as_dict=True), "kid": "ed", "alg": "EdDSA"},
        {"kty": "oct", "kid": "shared", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"},
    ]
}


def claims(**changes):
    """Return good claims with changes; a change to `...` takes the claim away."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "exp": now + 300, "iat": now, "sub": "7", "email": "alice@example.com"}
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


def signed(key=RSA, algorithm="RS256", kid="rsa", headers=None, **changes):
    """Return an assertion that is good unless something is changed."""
    return jwt.encode(claims(**changes), key, algorithm, headers={"kid": kid, **(headers or {})})


def segment(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def by_hand(header, payload, key=None, secret=b""):
    """Return an assertion whose parts no library would write: signed with RSA, by an HMAC, or not at all."""
    text = f"{segment(header)}.{segment(payload)}"
    if key is not None:
        signature = RSAAlgorithm(RSAAlgorithm.SHA256).sign(text.encode(), key)
    else:
        signature = hmac.digest(secret, text.encode(), hashlib.sha256) if secret else b""
    return f"{text}.{segment(signature)}"


@pytest.fixture(autouse=True)
def configured(settings, tmp_path):
    """Assertions are switched on, with the keys in a file."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps(KEYS), encoding="utf-8")
    settings.AUTH_USER_HEADER_FORMAT = "jwt"
    settings.AUTH_JWT_JWKS = str(path)
    settings.AUTH_JWT_ISSUER, settings.AUTH_JWT_AUDIENCE = ISSUER, AUDIENCE
    settings.AUTH_JWT_ALGORITHMS = ["RS256", "ES256", "EdDSA"]
    return path


@pytest.mark.parametrize(
    ("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (RSA, "RS256", "rsa-any"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed")]
)
def test_a_good_assertion_names_its_subject(key, algorithm, kid):
    assert verify(signed(key, algorithm, kid)) == ("alice@example.com", (), "")


@pytest.mark.parametrize("typ", ["JWT", "jwt", "Jwt", "at+jwt", "AT+JWT", "application/jwt", "APPLICATION/AT+JWT", None])
def test_the_types_of_a_signed_identity_are_accepted(typ):
    assert verify(signed(headers={"typ": typ}))[0] == "alice@example.com"


NOW = int(time.time())
BAD_CLAIMS = {
    "another issuer": {"iss": "https://evil.example"},
    "a part of the issuer": {"iss": "https://idp.example.co"},
    "a longer issuer": {"iss": ISSUER + "/"},
    "the issuer in a list": {"iss": [ISSUER]},
    "no issuer": {"iss": ...},
    "another audience": {"aud": "other"},
    "no audience": {"aud": ...},
    "an empty audience": {"aud": []},
    "an odd audience": {"aud": {"skyauth": 1}},
    "expired": {"exp": NOW - 3_600},
    "expired at the beginning of time": {"exp": 0},
    "expired before it": {"exp": -(10**30)},
    "no expiry": {"exp": ...},
    "expiry null": {"exp": None},
    "expiry in words": {"exp": "tomorrow"},
    "expiry as text": {"exp": str(NOW + 300)},
    "expiry not a number": {"exp": float("nan")},
    "expiry never": {"exp": float("inf")},
    "issued in words": {"iat": "today"},
    "issued as text": {"iat": str(NOW)},
    "issued null": {"iat": None},
    "issued true": {"iat": True},
    "valid for more than a day": {"iat": NOW, "exp": NOW + 86_460},
    "valid for ten years": {"exp": NOW + 10 * 365 * 86_400},
    "valid for ten years from an unknown day": {"iat": ..., "exp": NOW + 10 * 365 * 86_400},
    "issued long ago and valid for ten years": {"iat": NOW - 9 * 365 * 86_400, "exp": NOW + 365 * 86_400},
    "expiry true": {"exp": True},
    "expiry in a list": {"exp": [NOW + 300]},
    "expiry beyond all calendars": {"exp": 10**30},
    "not valid yet": {"nbf": NOW + 3_600},
    "odd not-before": {"nbf": "soon"},
    "issued in the future": {"iat": NOW + 3_600},
    "no e-mail": {"email": ...},
    "e-mail null": {"email": None},
    "e-mail as a list": {"email": ["alice@example.com"]},
    "e-mail as a mapping": {"email": {"alice@example.com": 1}},
    "e-mail as a number": {"email": 7},
    "e-mail not verified": {"email_verified": False},
}


@pytest.mark.parametrize("changes", BAD_CLAIMS.values(), ids=BAD_CLAIMS)
def test_promise_06_an_assertion_with_bad_claims_is_refused(changes):
    text = by_hand({"alg": "RS256", "kid": "rsa"}, claims(**changes), RSA)
    with pytest.raises(InvalidCredential, match=r"^assertion: ") as raised:
        verify(text)
    assert raised.value.method == "proxy"
    assert raised.value.claimed == "", "an assertion that is not valid proves no name"


REASONS = {
    "expired": {"exp": NOW - 3_600},
    "not valid yet": {"nbf": NOW + 3_600},
    "AUTH_JWT_ISSUER": {"iss": "https://evil.example"},
    "AUTH_JWT_AUDIENCE": {"aud": "other"},
    "exp is missing": {"exp": ...},
    "odd dates": {"iat": "today"},
}


@pytest.mark.parametrize(("reason", "changes"), REASONS.items(), ids=REASONS)
def test_the_reason_of_a_refused_assertion_is_in_words(reason, changes):
    with pytest.raises(InvalidCredential, match=reason):
        verify(signed(**changes))


@pytest.mark.parametrize("changes", [{"sub": 7}, {"sub": None}, {"jti": 7}, {"jti": []}])
def test_an_odd_claim_that_is_not_read_costs_nobody_the_identity(settings, changes):
    text = by_hand({"alg": "RS256", "kid": "rsa"}, claims(**changes), RSA)
    assert verify(text)[0] == "alice@example.com"
    settings.AUTH_JWT_CLAIM = "sub"
    with pytest.raises(InvalidCredential, match=r"the claim sub \(AUTH_JWT_CLAIM\) is not text"):
        verify(by_hand({"alg": "RS256", "kid": "rsa"}, claims(sub=7), RSA))


PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
FORGERIES = {
    "alg none": by_hand({"alg": "none", "kid": "rsa"}, claims()),
    "alg None": by_hand({"alg": "None", "kid": "rsa"}, claims()),
    "alg none with a signature": by_hand({"alg": "none", "kid": "rsa"}, claims(), RSA),
    "no alg": by_hand({"kid": "rsa"}, claims(), RSA),
    "alg in small letters": by_hand({"alg": "rs256", "kid": "rsa"}, claims(), RSA),
    "alg as a list": by_hand({"alg": ["RS256"], "kid": "rsa"}, claims(), RSA),
    "HS256 with the public key": by_hand({"alg": "HS256", "kid": "rsa"}, claims(), secret=PEM),
    "HS256 with the key id": by_hand({"alg": "HS256", "kid": "shared"}, claims(), secret=b"secret" * 5),
    "an algorithm that is not allowed": signed(algorithm="RS512", kid="rsa-any"),
    "an algorithm that is not the key's": signed(algorithm="PS256"),
    "ES256 for an RSA key": by_hand({"alg": "ES256", "kid": "rsa"}, claims(), RSA),
    "RS256 for an EC key": by_hand({"alg": "RS256", "kid": "ec"}, claims(), RSA),
    "another key": signed(STRANGER),
    "another key inside": signed(STRANGER, headers={"jwk": RSAAlgorithm.to_jwk(STRANGER.public_key(), as_dict=True)}),
    "another key elsewhere": signed(STRANGER, headers={"jku": "http://127.0.0.1:9/keys", "x5u": "http://127.0.0.1:9/"}),
    "an unknown key id": signed(kid="nosuch"),
    "no key id": by_hand({"alg": "RS256"}, claims(), RSA),
    "key id null": by_hand({"alg": "RS256", "kid": None}, claims(), RSA),
    "key id as a number": by_hand({"alg": "RS256", "kid": 7}, claims(), RSA),
    "key id as a list": by_hand({"alg": "RS256", "kid": ["rsa"]}, claims(), RSA),
    "key id as a path": by_hand({"alg": "RS256", "kid": "../../dev/null"}, claims(), RSA),
    "another type": signed(headers={"typ": "logout+jwt"}),
    "a type with a parameter": signed(headers={"typ": "JWT; charset=utf-8"}),
    "a type of another tree": signed(headers={"typ": "text/jwt"}),
    "an empty type": by_hand({"alg": "RS256", "kid": "rsa", "typ": ""}, claims(), RSA),
    "type as a list": by_hand({"alg": "RS256", "kid": "rsa", "typ": ["JWT"]}, claims(), RSA),
    "type as a mapping": by_hand({"alg": "RS256", "kid": "rsa", "typ": {"JWT": 1}}, claims(), RSA),
    "unknown crit": by_hand({"alg": "RS256", "kid": "rsa", "crit": ["x"], "x": 1}, claims(), RSA),
    "odd crit": by_hand({"alg": "RS256", "kid": "rsa", "crit": "x"}, claims(), RSA),
    "empty crit": by_hand({"alg": "RS256", "kid": "rsa", "crit": []}, claims(), RSA),
    "b64 false": by_hand({"alg": "RS256", "kid": "rsa", "b64": False, "crit": ["b64"]}, claims(), RSA),
    "a list for claims": by_hand({"alg": "RS256", "kid": "rsa"}, [1], RSA),
    "text for claims": by_hand({"alg": "RS256", "kid": "rsa"}, b"alice", RSA),
    "bytes for claims": by_hand({"alg": "RS256", "kid": "rsa"}, b"\xff\xfe", RSA),
    "a list for a header": by_hand([1], claims(), RSA),
    "a deep header": by_hand(b"[" * 8_000, claims(), RSA),
    "deep claims": f"{segment({'alg': 'RS256', 'kid': 'rsa'})}.{segment(b'[' * 6_000)}.AAAA",
    "nothing": "",
    "dots": "..",
    "two parts": "e30.e30",
    "four parts": signed() + ".e30",
    "five parts, as if encrypted": "e30.e30.e30.e30.e30",
    "no base64": "é.é.é",
    "changed claims": ".".join([signed().split(".")[0], segment(claims(email="root@example.com")), signed().split(".")[2]]),
    "no signature": signed().rpartition(".")[0] + ".",
    "a cut signature": signed()[:-4],
    "too long": signed(padding="x" * 32_768),
    "plain e-mail": "alice@example.com",
}


@pytest.mark.parametrize("text", FORGERIES.values(), ids=FORGERIES)
def test_promise_06_a_forged_or_broken_assertion_is_refused(text):
    with pytest.raises(InvalidCredential):
        verify(text)


HEADER = {"alg": "RS256", "kid": "rsa"}
REPEATS = {
    "a claim": (HEADER, {}, '"email": ', '"email": "root@example.com", "email": '),
    "a claim with the same value": (HEADER, {}, '"email": ', '"email": "alice@example.com", "email": '),
    "a claim in another spelling": (HEADER, {}, '"email": ', '"\\u0065mail": "root@example.com", "email": '),
    "inside a claim": (HEADER, {"realm_access": {"roles": []}}, '"roles": ', '"roles": ["admin"], "roles": '),
    "inside a list": (HEADER, {"groups": [{"a": 1}]}, '"a": ', '"a": 2, "a": '),
}


@pytest.mark.parametrize(("header", "changes", "once", "twice"), REPEATS.values(), ids=REPEATS)
def test_promise_06_a_repeated_name_in_the_claims_is_refused(header, changes, once, twice):
    text = json.dumps(claims(**changes))
    assert once in text
    with pytest.raises(InvalidCredential, match="a repeated name"):
        verify(by_hand(header, text.replace(once, twice).encode(), RSA))


@pytest.mark.parametrize(
    "twice", [b'{"alg": "none", "alg": "RS256", "kid": "rsa"}', b'{"alg": "RS256", "kid": "ec", "kid": "rsa"}']
)
def test_promise_06_a_repeated_name_in_the_header_is_refused(twice):
    with pytest.raises(InvalidCredential, match="a repeated name"):
        verify(by_hand(twice, claims(), RSA))


@pytest.mark.parametrize(
    ("dates", "max_hours"),
    [
        ({"exp": 300.5}, 24),
        ({"exp": 300.5, "iat": -0.25, "nbf": -0.25}, 24),
        ({"iat": 0, "exp": 86_400}, 24),
        ({"iat": ...}, 24),
        ({"iat": -10 * 86_400, "exp": 300}, 24 * 11),
    ],
)
def test_dates_with_a_fraction_and_lifetimes_up_to_the_limit_are_accepted(settings, dates, max_hours):
    settings.AUTH_JWT_MAX_HOURS = max_hours
    now = int(time.time())
    changes = {name: seconds if seconds is ... else now + seconds for name, seconds in dates.items()}
    assert verify(signed(**changes))[0] == "alice@example.com"


def test_a_clock_difference_of_seconds_is_accepted():
    now = int(time.time())
    assert verify(signed(exp=now - 10, nbf=now + 10))[0] == "alice@example.com"


GROUPS = {  # the claims, and the groups that they name
    "none": ({"groups": []}, ()),
    "one": ({"groups": ["admins"]}, ("admins",)),
    "odd names": ({"groups": ["a,b", "", "é"]}, ("a,b", "", "é")),
    "one as text": ({"groups": "admins"}, ("admins",)),
    "one with a comma as text": ({"groups": "CN=dev,OU=groups"}, ("CN=dev,OU=groups",)),
    "no text": ({"groups": ""}, ()),
}
FAULTS = {
    "a mapping": {"admins": True},
    "a number among them": ["admins", 7],
    "null among them": [None, "admins"],
    "a list among them": [["admins"]],
    "a truth value": True,
    "a number": 7,
}


@pytest.mark.parametrize(("changes", "expected"), GROUPS.values(), ids=GROUPS)
def test_groups_come_as_they_are(changes, expected):
    assert verify(signed(**changes)) == ("alice@example.com", expected, "")


@pytest.mark.parametrize("groups", FAULTS.values(), ids=FAULTS)
def test_a_fault_in_the_groups_costs_all_groups_and_not_the_identity(groups):
    assert verify(signed(groups=groups)) == ("alice@example.com", (), "the claim groups is not a list of names")


PATHS = {
    "a name": ("roles", {"roles": ["dev"]}, ("dev",)),
    "a path": ("realm_access.roles", {"realm_access": {"roles": ["dev"]}}, ("dev",)),
    "a longer path": ("resource_access.sky.roles", {"resource_access": {"sky": {"roles": ["dev"]}}}, ("dev",)),
    "a name with dots": ("https://example.com/groups", {"https://example.com/groups": ["dev"]}, ("dev",)),
    "a name with dots before a path": ("a.b", {"a.b": ["dev"], "a": {"b": ["root"]}}, ("dev",)),
    "a name with dots in a path": ("resource_access.sky.io.roles", {"resource_access": {"sky.io": {"roles": ["dev"]}}}, ("dev",)),
    "a path to nothing": ("realm_access.roles", {"realm_access": {}}, ()),
    "a path through a list": ("realm_access.roles", {"realm_access": ["roles"]}, ()),
    "a path through text": ("realm_access.roles", {"realm_access": "roles"}, ()),
    "a path to null": ("realm_access.roles", {"realm_access": {"roles": None}}, ()),
}


@pytest.mark.parametrize(("path", "changes", "expected"), PATHS.values(), ids=PATHS)
def test_the_groups_claim_can_be_a_path(settings, path, changes, expected):
    settings.AUTH_JWT_GROUPS_CLAIM = path
    assert verify(signed(**changes))[1] == expected


@pytest.mark.parametrize("absent", [..., None])
def test_promise_46_an_assertion_without_the_groups_claim_names_a_user_in_no_group(settings, absent):
    assert verify(signed(groups=absent))[1] == ()
    settings.AUTH_JWT_GROUPS_CLAIM = ""
    assert verify(signed(groups=absent))[1] is None, "no claim has groups"


OVERAGES = {
    "as Entra ID sends them": {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://x/"}}},
    "as its implicit flow does": {"hasgroups": True},
    "in words": {"hasgroups": "true"},
    "beside a list": {"_claim_names": {"groups": "src1"}, "groups": ["dev"]},
}


@pytest.mark.parametrize("changes", OVERAGES.values(), ids=OVERAGES)
def test_promise_46_more_groups_than_the_provider_sends_are_refused_with_words(settings, changes):
    with pytest.raises(InvalidCredential, match="in more groups than your identity provider sends") as raised:
        verify(signed(**changes))
    assert raised.value.claimed == "alice@example.com"
    assert raised.value.message == raised.value.reason
    settings.AUTH_JWT_GROUPS_CLAIM = "roles"
    assert verify(signed(**changes, roles=["dev"]))[1] == ("dev",), "the claim that is read is there"


@pytest.mark.parametrize("changes", [{"_claim_names": {"address": "src1"}}, {"_claim_names": "groups"}, {"hasgroups": False}])
def test_other_distributed_claims_say_nothing_about_groups(changes):
    assert verify(signed(**changes, groups=["dev"]))[1] == ("dev",)


@pytest.mark.django_db
def test_a_user_in_too_many_groups_is_told_so_and_so_is_the_admin(settings):
    settings.AUTH_BASIC = False
    subject = signed(**OVERAGES["as Entra ID sends them"])
    answer = judge([], proxied(subject=subject))
    assert answer.status == 401
    assert "in more groups than" in json.loads(answer.body)["detail"]
    page = judge([(b"accept", b"text/html")], proxied(subject=subject))
    assert page.status == 401
    assert b"in more groups than" in page.body
    entry = Entry.objects.first()
    assert (entry.event, entry.actor) == ("sign-in.refused", "alice@example.com")
    assert "in more groups than" in entry.reason
    assert not User.objects.exists()


def test_another_claim_can_name_the_user(settings):
    settings.AUTH_JWT_CLAIM, settings.AUTH_JWT_GROUPS_CLAIM = "upn", "roles"
    assert verify(signed(upn="bob@example.com", roles=["dev"], email_verified=False)) == (
        "bob@example.com",
        ("dev",),
        "",
    )


@pytest.mark.parametrize("accepted", [AUDIENCE, [AUDIENCE], ["web", AUDIENCE]])
def test_one_of_several_audiences_is_enough(settings, accepted):
    settings.AUTH_JWT_AUDIENCE = accepted
    for audience in (AUDIENCE, ["other", AUDIENCE]):
        assert verify(signed(aud=audience))[0] == "alice@example.com"
    with pytest.raises(InvalidCredential):
        verify(signed(aud="other"))


def one_key(path, key=RSA, **changes):
    """Write a key set with one key, without an id and more that is optional."""
    found = {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), **changes}
    path.write_text(json.dumps({"keys": [found]}), encoding="utf-8")


@pytest.mark.parametrize("named", [{}, {"kid": "rsa"}, {"kid": "another"}])
def test_a_key_set_of_one_key_without_an_id_works(configured, named):
    one_key(configured)
    assert verify(by_hand({"alg": "RS256", **named}, claims(), RSA))[0] == "alice@example.com"
    with pytest.raises(InvalidCredential, match="wrong signature"):
        verify(by_hand({"alg": "RS256", **named}, claims(), STRANGER))


def test_an_assertion_without_a_key_id_is_of_the_only_key_that_signs(configured):
    one_key(configured, kid="rsa")
    assert verify(by_hand({"alg": "RS256"}, claims(), RSA))[0] == "alice@example.com"
    with pytest.raises(InvalidCredential, match="unknown key"):
        verify(by_hand({"alg": "RS256", "kid": "another"}, claims(), RSA))


@pytest.mark.parametrize("algorithms", [["HS256", "none"], []])
def test_promise_06_no_setting_allows_a_symmetric_algorithm(settings, algorithms):
    settings.AUTH_JWT_ALGORITHMS = algorithms
    for text in (signed(), FORGERIES["alg none"], FORGERIES["HS256 with the public key"]):
        with pytest.raises(InvalidCredential):
            verify(text)


@pytest.mark.parametrize(
    "content",
    [None, "", "no json", "[]", "{}", '{"keys": []}', '{"keys": 7}', '{"keys": [7]}', '{"keys": [{"kty": "nonsense"}]}', b"\xff"],
)
def test_promise_43_a_key_file_that_cannot_be_read_is_a_failure_of_skyauth(configured, content):
    configured.unlink()
    if content is not None:
        configured.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(KeysUnavailable, match="AUTH_JWT_JWKS cannot be read"):
        verify(signed())


RSA_KEY = {**RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True), "kid": "rsa"}
STRANGE_KEYS = {  # a member of a key set that SkyAuth cannot use
    "null": None,
    "text": "key",
    "no type": {},
    "a type in a list": {"kty": ["RSA"]},
    "an unknown type": {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"},
    "an algorithm in a list": {**RSA_KEY, "kid": "x", "alg": ["RS256"]},
    "an unknown algorithm": {**RSA_KEY, "kid": "x", "alg": "RSA-OAEP"},
    "a number for a modulus": {**RSA_KEY, "kid": "x", "n": 5},
    "an empty modulus": {**RSA_KEY, "kid": "x", "n": ""},
    "no exponent": {"kty": "RSA", "kid": "x", "n": RSA_KEY["n"]},
    "coordinates outside base64": {"kty": "EC", "crv": "P-256", "x": "!", "y": "!"},
    "no coordinates": {"kty": "EC", "crv": "P-256"},
    "a curve in a list": {"kty": "EC", "crv": ["P-256"]},
    "an unknown curve": {"kty": "OKP", "crv": "X25519", "x": "AA"},
    "a null point": {"kty": "OKP", "crv": "Ed25519", "x": None},
    "an id in a list": {**RSA_KEY, "kid": ["x"]},
    "a shared secret": {"kty": "oct", "k": 7},
}


def write(path, *keys):
    path.write_text(json.dumps({"keys": keys}), encoding="utf-8")


@pytest.mark.parametrize("key", STRANGE_KEYS.values(), ids=STRANGE_KEYS)
@pytest.mark.parametrize("first", [True, False])
def test_promise_50_a_fault_in_one_key_of_the_set_costs_this_key_alone(configured, key, first):
    write(configured, *([key, RSA_KEY] if first else [RSA_KEY, key]))
    assert verify(signed())[0] == "alice@example.com"


WEAK = rsa.generate_private_key(public_exponent=65_537, key_size=1_024)  # noqa: S505 - weak, as some providers have it
UNSAFE = {  # a key, its algorithm, how the key set shows it, and what the error says of it
    "a private RSA key": (RSA, "RS256", RSAAlgorithm.to_jwk(RSA, as_dict=True), "a private key"),
    "a private EC key": (EC, "ES256", ECAlgorithm.to_jwk(EC, as_dict=True), "a private key"),
    "a private Ed25519 key": (ED, "EdDSA", OKPAlgorithm.to_jwk(ED, as_dict=True), "a private key"),
    "a short RSA key": (WEAK, "RS256", RSAAlgorithm.to_jwk(WEAK.public_key(), as_dict=True), "an RSA key of 1024 bits"),
    "a key for encryption": (RSA, "RS256", {**RSA_KEY, "use": "enc"}, "no key that SkyAuth can use"),
    "a key for other operations": (RSA, "RS256", {**RSA_KEY, "key_ops": ["encrypt"]}, "no key that SkyAuth can use"),
}


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize(("key", "algorithm", "shown", "reason"), UNSAFE.values(), ids=UNSAFE)
def test_promise_06_a_key_that_others_have_or_that_is_not_for_signatures_verifies_nothing(
    configured, key, algorithm, shown, reason
):
    write(configured, {**shown, "kid": "unsafe"})
    with pytest.raises(KeysUnavailable, match=reason):
        verify(signed(key, algorithm, "unsafe"))
    provider_keys.key_set.cache_clear()
    write(configured, {**shown, "kid": "unsafe"}, *KEYS["keys"])
    with pytest.raises(InvalidCredential, match="unknown key"):
        verify(signed(key, algorithm, "unsafe"))


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256"])
def test_a_key_that_names_no_algorithm_verifies_all_of_its_type(configured, settings, algorithm):
    settings.AUTH_JWT_ALGORITHMS = [algorithm]
    write(configured, RSA_KEY)
    assert verify(signed(RSA, algorithm))[0] == "alice@example.com"
    with pytest.raises(InvalidCredential, match="AUTH_JWT_ALGORITHMS"):
        verify(signed(RSA, "RS384"))


def test_several_keys_can_have_one_id(configured):
    keys = [RSA, STRANGER, EC]
    write(
        configured,
        *({**(ECAlgorithm if key is EC else RSAAlgorithm).to_jwk(key.public_key(), as_dict=True), "kid": "1"} for key in keys),
    )
    for key in keys:
        assert verify(signed(key, "ES256" if key is EC else "RS256", "1"))[0] == "alice@example.com"
    with pytest.raises(InvalidCredential, match="wrong signature"):
        verify(signed(WRONG, kid="1"))


def test_an_assertion_without_a_key_id_is_of_the_only_key_for_its_algorithm(configured):
    write(configured, RSA_KEY, KEYS["keys"][2])
    assert verify(by_hand({"alg": "RS256"}, claims(), RSA))[0] == "alice@example.com"
    assert verify(jwt.encode(claims(), EC, "ES256"))[0] == "alice@example.com"


def test_promise_50_a_user_in_300_groups_signs_in_with_what_entra_id_sends():
    """A token of Entra ID has about 1 kB of other claims."""
    ids = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(300)]
    assert verify(signed(groups=ids, others="x" * 1_000))[1] == tuple(ids)


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    moved = Clock()
    monkeypatch.setattr(provider_keys, "time", moved)
    return moved


class KeyServer:
    """A key server of an identity provider: what it serves, how often it was asked, and a brake."""

    def __init__(self) -> None:
        self.body = json.dumps(KEYS).encode()
        self.status = 200
        self.pause = 0.0  # after each byte
        self.asked = 0
        self.busy, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked += 1
                outer.busy.set()
                outer.go_on.wait(20)
                self.send_response(outer.status)
                self.send_header("location", "/elsewhere")
                self.send_header("content-length", str(len(outer.body)))
                self.end_headers()
                with suppress(OSError):  # the client has gone
                    if not outer.pause:
                        self.wfile.write(outer.body)
                    for byte in outer.body if outer.pause else b"":
                        self.wfile.write(bytes([byte]))
                        time.sleep(outer.pause)

            def log_message(self, *args):
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/keys"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def stop(self) -> None:
        self.go_on.set()
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server(settings):
    running = KeyServer()
    settings.AUTH_JWT_JWKS = running.url
    provider_keys.key_set.cache_clear()
    yield running
    if running.thread.is_alive():
        running.stop()
    provider_keys.key_set.cache_clear()


def test_keys_are_fetched_once(server):
    for _ in range(3):
        assert verify(signed())[0] == "alice@example.com"
    assert server.asked == 1


def test_unknown_key_ids_cause_at_most_two_fetches_a_minute(server, clock):
    verify(signed())
    for n in range(20):
        clock.now += 1
        with pytest.raises(InvalidCredential, match="unknown key"):
            verify(signed(kid=f"made-up-{n}"))
    assert server.asked == 1
    clock.now += 30
    for _ in range(3):
        with pytest.raises(InvalidCredential, match="unknown key"):
            verify(signed(kid="made-up"))
    assert server.asked == 2


def test_a_new_key_is_found_and_a_withdrawn_one_is_gone_with_the_next_fetch(server, clock):
    assert verify(signed(EC, "ES256", "ec"))
    new = {**RSAAlgorithm.to_jwk(STRANGER.public_key(), as_dict=True), "kid": "new"}
    server.body = json.dumps({"keys": [new]}).encode()
    clock.now += 31
    assert verify(signed(STRANGER, kid="new"))[0] == "alice@example.com"
    with pytest.raises(InvalidCredential, match="unknown key"):
        verify(signed())


def test_promise_43_an_unreachable_key_server_is_a_failure_for_unknown_keys_only(server, clock):
    verify(signed())
    server.stop()
    clock.now += 31
    assert verify(signed())[0] == "alice@example.com"
    with pytest.raises(KeysUnavailable):
        verify(signed(kid="new"))


def test_the_successor_of_a_key_without_an_id_is_found_with_the_next_fetch(server, clock):
    def serve(key):
        server.body = json.dumps({"keys": [RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)]}).encode()

    serve(RSA)
    assert verify(by_hand({"alg": "RS256"}, claims(), RSA))
    serve(STRANGER)
    for _ in range(3):
        with pytest.raises(InvalidCredential, match="wrong signature"):
            verify(by_hand({"alg": "RS256"}, claims(), STRANGER))
    assert server.asked == 1
    clock.now += 31
    assert verify(by_hand({"alg": "RS256"}, claims(), STRANGER))[0] == "alice@example.com"
    assert server.asked == 2


def test_a_withdrawn_key_is_refused_after_five_minutes(server, clock):
    assert verify(signed())
    server.body = json.dumps({"keys": [{**KEYS["keys"][2]}]}).encode()
    clock.now += 299
    assert verify(signed())
    clock.now += 1
    with pytest.raises(InvalidCredential, match="unknown key"):
        verify(signed())


def test_promise_43_old_keys_are_not_trusted_and_an_unreachable_key_server_is_not_fetched_for_each_request(server, clock):
    assert verify(signed())
    server.stop()
    clock.now += 600
    for message in ("cannot be read", "could not be read lately", "could not be read lately"):
        with pytest.raises(KeysUnavailable, match=message):
            verify(signed())


@pytest.mark.parametrize("status", [500, 302])
def test_promise_50_one_bad_response_of_the_key_server_costs_nobody_the_identity(server, clock, caplog, status):
    verify(signed())
    server.status = status
    clock.now += 300
    assert verify(signed())[0] == "alice@example.com", "the keys are not old yet"
    assert f"the server answers {status}" in caplog.text
    assert "The keys that were read 300 seconds ago are used." in caplog.text
    server.status = 200
    clock.now += 299
    assert verify(signed())[0] == "alice@example.com"
    clock.now += 299
    assert verify(signed())[0] == "alice@example.com", "they have been read again"


def test_after_a_failed_first_read_the_key_server_is_asked_again_five_seconds_later(server, clock):
    server.status = 500
    for _ in range(2):
        with pytest.raises(KeysUnavailable):
            verify(signed())
    server.status = 200
    clock.now += 5
    assert verify(signed())[0] == "alice@example.com"
    assert server.asked == 2


def test_a_key_that_is_replaced_by_one_of_the_same_id_is_found_with_the_next_fetch(server, clock):
    verify(signed())
    server.body = json.dumps({"keys": [{**RSAAlgorithm.to_jwk(STRANGER.public_key(), as_dict=True), "kid": "rsa"}]}).encode()
    with pytest.raises(InvalidCredential, match="wrong signature"):
        verify(signed(STRANGER))
    clock.now += 31
    assert verify(signed(STRANGER))[0] == "alice@example.com"
    with pytest.raises(InvalidCredential, match="wrong signature"):
        verify(signed())


def test_promise_50_a_huge_key_set_is_not_read_to_its_end(server):
    server.body = json.dumps({"keys": [*KEYS["keys"], {"padding": "x" * 2_000_000}]}).encode()
    with pytest.raises(KeysUnavailable, match="more than 1,048,576 bytes"):
        verify(signed())


def test_promise_50_a_key_set_that_arrives_byte_by_byte_is_given_up(server, monkeypatch):
    monkeypatch.setattr(provider_keys, "_FETCH_SECONDS", 0.5)
    server.pause = 0.1
    began = time.monotonic()
    with pytest.raises(KeysUnavailable, match="time-out"):
        verify(signed())
    assert time.monotonic() < began + 5


SOURCES = {  # what the key server sends, and what the log says
    "a page": (200, b"<html>", "it is not JSON"),
    "a deep list": (200, b"[" * 100_000, "it is not JSON"),
    "a list": (200, b"[1]", "it is not a JSON Web Key Set"),
    "the discovery document": (200, b'{"jwks_uri": "https://idp.example.com/keys"}', "it is not a JSON Web Key Set"),
    "no keys": (200, b'{"keys": []}', "it has no key that SkyAuth can use"),
    "an error": (500, b"", "the server answers 500"),
    "a redirect": (307, b"", "follows no redirect"),
}


@pytest.mark.parametrize(("status", "body", "reason"), SOURCES.values(), ids=SOURCES)
def test_why_a_key_set_cannot_be_read_is_said_in_words(server, status, body, reason):
    server.status, server.body = status, body
    with pytest.raises(KeysUnavailable, match=reason):
        verify(signed())


def test_a_slow_key_server_does_not_delay_requests_whose_key_is_cached(server, clock):
    verify(signed())
    clock.now += 31
    server.busy.clear()
    server.go_on.clear()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(verify, signed(kid="new"))
        assert server.busy.wait(20)
        assert verify(signed())[0] == "alice@example.com"
        clock.now += 573
        assert verify(signed())[0] == "alice@example.com", "old by as long as the fetch under way takes"
        clock.now += 1
        with pytest.raises(KeysUnavailable, match="is being read"):
            verify(signed())
        with pytest.raises(KeysUnavailable, match="is being read"):
            verify(signed(kid="another"))
        assert not waiting.done()
        server.go_on.set()
        assert isinstance(waiting.exception(20), KeysUnavailable), "a fetch that takes ten minutes has failed"


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'"x"', b""])
def test_promise_43_an_invalid_key_set_is_a_failure_of_skyauth(server, body):
    server.body = body
    with pytest.raises(KeysUnavailable):
        verify(signed())


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("text", "status"),
    [(signed(), 401), (FORGERIES["type as a list"], 401), (FORGERIES["deep claims"], 401), (FORGERIES["alg none"], 401)],
)
def test_a_refused_assertion_is_401_at_the_gateway(settings, text, status):
    settings.AUTH_JWT_AUDIENCE = "another"
    assert judge([], proxied(subject=text)).status == status


@pytest.mark.django_db
def test_one_users_refused_assertions_do_not_hide_the_reason_of_anothers():
    for text in (signed(aud="other"), signed(aud="other"), signed(exp=NOW - 3_600)):
        assert judge([], proxied(subject=text)).status == 401
    reasons = list(Entry.objects.order_by("pk").values_list("reason", flat=True))
    assert [reason.partition(" (")[0] for reason in reasons] == [
        "assertion: the audience is not AUTH_JWT_AUDIENCE",
        "assertion: expired",
    ]


@pytest.mark.django_db
def test_promise_43_keys_that_cannot_be_read_are_503_at_the_gateway(configured, caplog):
    configured.unlink()
    assert judge([], proxied(subject=signed())).status == 503
    assert "The key set of AUTH_JWT_JWKS cannot be read: No such file or directory." in caplog.text


@pytest.mark.django_db
def test_promise_07_the_plain_groups_header_is_ignored_beside_an_assertion(settings, read_write):
    settings.RBAC_DEFAULT_ROLE = "viewer"
    answer = judge([], proxied(subject=signed(groups=["dev"]), groups="admins"))
    assert answer.status == 200
    assert identity(answer)["groups"] == "dev"


def test_a_key_that_is_for_encryption_signs_no_assertion(configured):
    """RFC 7517 section 4.2."""
    key = json.loads(RSAAlgorithm.to_jwk(STRANGER.public_key()))
    configured.write_text(json.dumps({"keys": [*KEYS["keys"], {**key, "kid": "encrypts", "use": "enc"}]}), encoding="utf-8")
    with pytest.raises(InvalidCredential, match="unknown key"):
        verify(signed(STRANGER, kid="encrypts"))
