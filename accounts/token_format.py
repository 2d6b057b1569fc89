"""The format of a service-account token: `sky_<key id>_<secret><checksum>`.

The prefix identifies it (and the `sky` CLI requires it), the key id finds the row, and the secret authenticates. The checksum
lets a secret scanner and this module reject a mistyped or invented token without a query. It authenticates nothing.
"""

import hashlib
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "sky_"
KEY_ID_LENGTH: Final = 12
SECRET_BYTES: Final = 32
SECRET_LENGTH: Final = 43  # ceil(256 / log2(62))
CHECKSUM_LENGTH: Final = 6  # ceil(32 / log2(62))
LENGTH: Final = len(PREFIX) + KEY_ID_LENGTH + 1 + SECRET_LENGTH + CHECKSUM_LENGTH

_BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SHAPE = re.compile(rb"sky_([0-9A-Za-z]{12})_[0-9A-Za-z]{49}\Z")


@dataclass(frozen=True, slots=True)
class NewToken:
    """A new token: `plaintext` is shown to the owner once, `key_id` and `digest` are stored."""

    key_id: str
    digest: str
    plaintext: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ParsedToken:
    """A well-formed token from a request: the key id of its row, and the digest that the row must have."""

    key_id: str
    digest: str = field(repr=False)


def base62(number: int, length: int) -> str:
    """Return `number` in base 62 (digits, upper case, lower case), padded with zeros to `length`."""
    digits = []
    while number:
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits)).rjust(length, "0")


def checksum(body: str) -> str:
    """Return the CRC-32 (ISO-HDLC, as in zlib) of a token without its checksum, in base 62, six characters."""
    return base62(zlib.crc32(body.encode("ascii")), CHECKSUM_LENGTH)


def digest(token: bytes) -> str:
    """Return the SHA-256 of the whole token in hex. A fast hash is enough for 256 random bits."""
    return hashlib.sha256(token).hexdigest()


def mint() -> NewToken:
    """Return a new token with a secret of 256 random bits."""
    key_id = _key_id()
    body = f"{PREFIX}{key_id}_{base62(int.from_bytes(secrets.token_bytes(SECRET_BYTES)), SECRET_LENGTH)}"
    plaintext = body + checksum(body)
    return NewToken(key_id, digest(plaintext.encode("ascii")), plaintext)


def _key_id() -> str:
    """Return a random key id that does not start with "ey".

    A SkyPilot server's own tokens are JSON Web Tokens and start with `sky_ey`. A proxy distinguishes the two by that.
    """
    while True:
        key_id = "".join(secrets.choice(_BASE62) for _ in range(KEY_ID_LENGTH))
        if not key_id.lower().startswith("ey"):
            return key_id


def parse(token: bytes) -> ParsedToken | None:
    """Return the parts of a token, or None if its length, alphabet or checksum is wrong."""
    match = _SHAPE.match(token) if len(token) == LENGTH else None
    if match is None:
        return None
    text = token.decode("ascii")
    if text[-CHECKSUM_LENGTH:] != checksum(text[:-CHECKSUM_LENGTH]):
        return None
    return ParsedToken(match[1].decode("ascii"), digest(token))


def matches(presented: str, stored: str) -> bool:
    """Return whether two digests are equal, in constant time."""
    return hmac.compare_digest(presented.encode("utf-8"), stored.encode("utf-8"))
