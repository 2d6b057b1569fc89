"""The shape of a service-account token: `sky_<key id>_<secret><checksum>`.

The prefix makes it recognisable (and the `sky` CLI insists on it), the key id finds the row, the secret proves, and the
checksum lets a scanner, and this module, refuse a mistyped or invented one without a query. The checksum proves nothing.
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
class Minted:
    """A new token: `plaintext` is for its owner, once; `key_id` and `digest` are for the database."""

    key_id: str
    digest: str
    plaintext: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Presented:
    """A token somebody showed, well-formed: the row to look for, and the digest that must be in it."""

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
    """Return the CRC-32 (ISO-HDLC, as zlib has it) of the text before it, in base 62, six characters."""
    return base62(zlib.crc32(body.encode("ascii")), CHECKSUM_LENGTH)


def digest(token: bytes) -> str:
    """Return the SHA-256 of the whole token in hex. One fast hash is enough for 256 random bits."""
    return hashlib.sha256(token).hexdigest()


def mint() -> Minted:
    """Return a new token from the operating system's random source."""
    key_id = _key_id()
    body = f"{PREFIX}{key_id}_{base62(int.from_bytes(secrets.token_bytes(SECRET_BYTES)), SECRET_LENGTH)}"
    plaintext = body + checksum(body)
    return Minted(key_id, digest(plaintext.encode("ascii")), plaintext)


def _key_id() -> str:
    """Return a random key id that does not start with "ey".

    A SkyPilot server's own tokens are JSON Web Tokens and start with `sky_ey`: a proxy in front tells the two apart by that.
    """
    while True:
        key_id = "".join(secrets.choice(_BASE62) for _ in range(KEY_ID_LENGTH))
        if not key_id.lower().startswith("ey"):
            return key_id


def parse(token: bytes) -> Presented | None:
    """Return what to look for, or None when this is no token of ours: wrong length, alphabet or checksum."""
    found = _SHAPE.match(token) if len(token) == LENGTH else None
    if found is None:
        return None
    text = token.decode("ascii")
    if text[-CHECKSUM_LENGTH:] != checksum(text[:-CHECKSUM_LENGTH]):
        return None
    return Presented(found[1].decode("ascii"), digest(token))


def matches(presented: str, stored: str) -> bool:
    """Return whether two digests are equal, in time that does not tell where they differ."""
    return hmac.compare_digest(presented.encode("utf-8"), stored.encode("utf-8"))
