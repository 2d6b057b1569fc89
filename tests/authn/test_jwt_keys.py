"""SkyAuth's own signing keys: which files are accepted, and that only the public half is published."""

import os
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authn import jwt_keys
from authn.jwt_keys import Unusable
from tests.examples import examples

ED = ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(65_537, 2_048)
PEM = {"EdDSA": jwt_keys.new_pem(), "RS256": jwt_keys.new_pem(rsa=True)}


def pem(key, encryption=None, form=PrivateFormat.PKCS8):
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


def file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "key.pem"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("public", "kid"),
    [
        (  # RFC 7638 section 3.1
            {
                "kty": "RSA",
                "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB"
                "ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8"
                "KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_"
                "xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
                "e": "AQAB",
                "alg": "RS256",
                "kid": "2011-04-29",
            },
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
        ),
        (  # RFC 8037 appendix A.3
            {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        ),
    ],
)
def test_a_key_id_is_the_thumbprint_of_the_rfc(public, kid):
    assert jwt_keys.thumbprint(public) == kid


@pytest.mark.parametrize("algorithm", ["EdDSA", "RS256"])
def test_a_new_key_signs_and_its_published_half_verifies(tmp_path, algorithm):
    key = jwt_keys.read(file(tmp_path, PEM[algorithm].encode()))
    assert key.algorithm == algorithm
    published = jwt.PyJWK(key.public())
    assert (published.key_id, published.algorithm_name, published.public_key_use) == (key.kid, algorithm, "sig")
    signed = jwt.encode({"sub": "bob"}, key.private, key.algorithm)
    assert jwt.decode(signed, published, algorithms=[algorithm]) == {"sub": "bob"}


@pytest.mark.parametrize(
    "content", [pem(ED), pem(RSA), pem(RSA, form=PrivateFormat.TraditionalOpenSSL), b"# of 2026\n" + pem(ED)]
)
def test_a_key_that_can_sign_is_accepted(tmp_path, content):
    assert jwt_keys.read(file(tmp_path, content)).kid in {jwt_keys.key(ED).kid, jwt_keys.key(RSA).kid}


@pytest.mark.parametrize("key", [ED, RSA])
def test_promise_06_only_the_public_half_of_a_key_is_published(tmp_path, key):
    found = jwt_keys.read(file(tmp_path, pem(key)))
    assert set(found.public()) <= {"kty", "crv", "x", "n", "e", "kid", "use", "alg"}, "no d, p, q, dp, dq, qi, k"
    secret = key.private_bytes_raw().hex() if key is ED else str(key.private_numbers().d)
    for text in (repr(found), str(found), repr(found.public())):
        assert secret not in text
        assert "PRIVATE" not in text


NO_PEM, OTHER_KIND = "is not a private key in PEM without a password", "is neither an Ed25519 nor an RSA key"
UNFIT = {
    "empty": (b"", NO_PEM),
    "something else": (b"hunter2", NO_PEM),
    "cut off": (pem(ED)[:-40], NO_PEM),
    "encrypted": (pem(ED, BestAvailableEncryption(b"hunter2")), NO_PEM),
    "public": (ED.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), NO_PEM),
    "DER": (ED.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), NO_PEM),
    "short RSA": (pem(rsa.generate_private_key(65_537, 1_024)), "is an RSA key of 1024 bits"),  # noqa: S505 - that is the point
    "elliptic curve": (pem(ec.generate_private_key(ec.SECP256R1())), OTHER_KIND),
    "Ed448": (pem(ed448.Ed448PrivateKey.generate()), OTHER_KIND),
}


@pytest.mark.parametrize(("content", "why"), UNFIT.values(), ids=UNFIT)
def test_a_key_that_cannot_sign_is_refused_with_what_to_do(tmp_path, content, why):
    with pytest.raises(Unusable, match=why) as refused:
        jwt_keys.read(file(tmp_path, content))
    assert "manage.py create_assertion_key" in refused.value.todo


@settings(deadline=None, max_examples=examples(200), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 200), junk=st.binary(max_size=30))
def test_promise_42_an_error_contains_no_part_of_the_key_file(tmp_path, cut, junk):
    content = pem(ED)
    broken = content[:cut] + junk + content[cut + 1 :]
    path = file(tmp_path, broken)
    try:
        jwt_keys.read(path)
        return  # what was changed did not matter
    except Unusable as error:
        refused = error
    assert str(refused) == f"{path} is not a private key in PEM without a password."
    assert refused.__cause__ is None
    assert refused.__suppress_context__


@pytest.mark.parametrize(
    "path", [lambda folder: folder / "none.pem", lambda folder: folder, lambda folder: folder / "a\0b", lambda folder: Path()]
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, path):
    with pytest.raises(Unusable, match="cannot be read"):
        jwt_keys.read(path(tmp_path))


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_a_file_that_only_its_owner_can_read_is_accepted(tmp_path, mode):
    assert jwt_keys.read(file(tmp_path, pem(ED), mode))


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602, 0o601, 0o644, 0o666])
def test_promise_06_a_file_that_others_can_read_or_change_is_refused(tmp_path, mode):
    path = file(tmp_path, pem(ED), mode)
    with pytest.raises(Unusable, match="read or changed by others") as refused:
        jwt_keys.read(path)
    assert refused.value.todo == f"Run: chmod 600 {path}"


@pytest.mark.parametrize(("mode", "taken"), [(0o440, True), (0o640, True), (0o660, False), (0o644, False), (0o604, False)])
def test_the_group_can_read_a_key_file_of_another_owner(tmp_path, monkeypatch, mode, taken):
    path = file(tmp_path, pem(ED), mode)
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    if taken:
        assert jwt_keys.read(path)
    else:
        with pytest.raises(Unusable, match="read or changed by others"):
            jwt_keys.read(path)
