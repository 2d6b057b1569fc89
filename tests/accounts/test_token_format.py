"""The shape of a token: recognisable, checked without a query, proven by its digest alone."""

import hashlib
import re
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts import token_format
from accounts.token_format import NewToken, base62, checksum, matches, mint, parse
from tests.examples import examples

GOOD = mint().plaintext.encode()


def with_checksum(body):
    """Return a body with the checksum that fits it."""
    return (body + checksum(body)).encode()


def test_promise_09_a_token_has_prefix_key_id_secret_and_checksum():
    minted = mint()
    assert re.fullmatch(r"sky_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}", minted.plaintext)
    assert len(minted.plaintext) == token_format.LENGTH == 66
    assert minted.plaintext[4:16] == minted.key_id
    assert minted.plaintext.endswith(base62(zlib.crc32(minted.plaintext[:-6].encode()), 6))


def test_promise_09_the_checksum_is_never_proof():
    forged = with_checksum(f"sky_{GOOD[4:16].decode()}_{'0' * 43}")
    presented = parse(forged)
    assert presented is not None
    assert presented.key_id == GOOD[4:16].decode()
    assert not matches(presented.digest, parse(GOOD).digest)


def test_promise_10_the_secret_is_256_random_bits_and_only_its_hash_is_kept():
    minted = [mint() for _ in range(200)]
    assert len({m.key_id for m in minted}) == len({m.plaintext[17:60] for m in minted}) == 200
    assert token_format.SECRET_BYTES * 8 == 256
    assert 62**token_format.SECRET_LENGTH > 2**256
    assert all(m.digest == hashlib.sha256(m.plaintext.encode()).hexdigest() for m in minted)
    assert all(m.plaintext not in repr(m) for m in minted)


def test_no_key_id_looks_like_a_json_web_token(monkeypatch):
    picks = iter("eyABCDEFGHIJ" + "EyABCDEFGHIJ" + "abcdefghijkl")
    monkeypatch.setattr(token_format.secrets, "choice", lambda _: next(picks))
    assert mint().key_id == "abcdefghijkl"


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"sky_",
        GOOD[:-1],
        GOOD + b"0",
        GOOD + b"\n",
        b" " + GOOD[:-1],
        GOOD.replace(b"sky_", b"SKY_"),
        GOOD.replace(b"sky_", b"sk__"),
        GOOD[:16] + b"-" + GOOD[17:],
        GOOD[:20] + b"\xff" + GOOD[21:],
        GOOD[:20] + b"\x00" + GOOD[21:],
        GOOD[:20] + "é".encode() + GOOD[22:],
        GOOD[:20] + b"-" + GOOD[21:],
        GOOD[:-6] + b"000000",
        GOOD.swapcase(),
        "sky_".encode("utf-16"),
        GOOD * 2,
        GOOD * 1000,
    ],
)
def test_promise_09_what_is_no_token_is_refused_without_a_query(token):
    assert parse(token) is None


def test_every_single_bit_that_flips_is_noticed():
    for position in range(len(GOOD)):
        for bit in range(8):
            changed = bytearray(GOOD)
            changed[position] ^= 1 << bit
            assert parse(bytes(changed)) is None, (position, bit)


def test_every_single_character_that_changes_is_noticed():
    alphabet = token_format._BASE62.encode()
    for position in range(len(GOOD)):
        for byte in alphabet:
            if byte != GOOD[position]:
                assert parse(GOOD[:position] + bytes((byte,)) + GOOD[position + 1 :]) is None


@pytest.mark.parametrize(
    ("number", "length", "expected"), [(0, 1, "0"), (0, 3, "000"), (61, 1, "z"), (62, 2, "10"), (2**32 - 1, 6, "4gfFC3")]
)
def test_base62_counts_digits_then_capitals_then_small_letters(number, length, expected):
    assert base62(number, length) == expected


def test_a_checksum_always_has_six_characters():
    assert checksum("") == "000000"
    assert len(checksum("x")) == 6


@pytest.mark.parametrize(
    ("one", "other", "equal"), [("a" * 64, "a" * 64, True), ("a", "b", False), ("a", "", False), ("é", "é", True)]
)
def test_digests_are_compared_as_bytes(one, other, equal):
    assert matches(one, other) is equal


@settings(deadline=None)
@given(
    st.one_of(
        st.binary(max_size=100), st.binary(min_size=66, max_size=66), st.from_regex(rb"\Asky_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}\Z")
    )
)
def test_parsing_never_raises(token):
    parsed = parse(token)
    assert parsed is None or token.startswith(b"sky_" + parsed.key_id.encode() + b"_")


def test_what_is_minted_parses_to_its_key_id_and_digest():
    for _ in range(100):
        minted = mint()
        parsed = parse(minted.plaintext.encode())
        assert isinstance(minted, NewToken)
        assert (parsed.key_id, parsed.digest) == (minted.key_id, minted.digest)


@settings(deadline=None, max_examples=examples(300))
@given(
    st.lists(st.tuples(st.integers(0, 65), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 66),
    st.binary(max_size=3),
)
def test_a_changed_token_is_never_taken_for_the_real_one(changes, cut, inserted):
    changed = bytearray(GOOD)
    for position, byte in changes:
        changed[position] = byte
    for token in (bytes(changed), GOOD[:cut] + inserted + GOOD[cut:], GOOD[:cut]):
        parsed = parse(token)
        if token != GOOD:
            assert parsed is None or not matches(parsed.digest, parse(GOOD).digest)
