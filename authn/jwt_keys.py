"""SkyAuth's own signing keys, which are read from files. Only their public halves are published."""

import base64
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from core.private_files import open_to_others

PrivateKey = Ed25519PrivateKey | RSAPrivateKey

LEAST_BITS: Final = 2_048  # of an RSA key: what RFC 7518 section 3.3 requires
_NEW_BITS: Final = 3_072
_MAX_FILE: Final = 64 * 1024
# What makes a public key the key that it is (RFC 7638 section 3.2, RFC 8037 section 2).
_MEMBERS: Final = {"OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}


class Unusable(Exception):
    """A key file cannot be used. The message says why, and `todo` what to do; neither contains any part of the file."""

    def __init__(self, path: Path, why: str, todo: str) -> None:
        super().__init__(f"{path} {why}.")
        self.todo = todo


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with its key id (RFC 7638) and algorithm (RFC 7518, RFC 8037)."""

    kid: str
    algorithm: str
    private: PrivateKey = field(repr=False, compare=False)

    def public(self) -> dict[str, str]:
        """Return the public half as a key of a key set (RFC 7517 section 4)."""
        return {**_public(self.private), "kid": self.kid, "use": "sig", "alg": self.algorithm}


def read(path: Path) -> SigningKey:
    """Return the key in a file: PEM, unencrypted, Ed25519 or RSA. Raises Unusable."""
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            content = stream.read(_MAX_FILE)
    except (OSError, ValueError) as error:  # ValueError: the path contains a NUL
        why = getattr(error, "strerror", None) or "not a path"
        raise Unusable(path, f"cannot be read: {why}", "Make a key with: manage.py create_assertion_key FILE") from None
    if open_to_others(status):
        raise Unusable(path, "can be read or changed by others on this machine", f"Run: chmod 600 {path}")
    try:
        private = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        raise Unusable(
            path, "is not a private key in PEM without a password", "Make one with: manage.py create_assertion_key FILE"
        ) from None
    if isinstance(private, RSAPrivateKey) and private.key_size < LEAST_BITS:
        why = f"is an RSA key of {private.key_size} bits"
        raise Unusable(path, why, f"Take one of at least {LEAST_BITS}: manage.py create_assertion_key FILE --rsa")
    if not isinstance(private, PrivateKey):
        raise Unusable(path, "is neither an Ed25519 nor an RSA key", "Make one with: manage.py create_assertion_key FILE")
    return key(private)


def key(private: PrivateKey) -> SigningKey:
    """Return a private key with its id and algorithm."""
    algorithm = "RS256" if isinstance(private, RSAPrivateKey) else "EdDSA"
    return SigningKey(thumbprint(_public(private)), algorithm, private)


def new_pem(*, rsa: bool = False) -> str:
    """Return a new private key as PEM (PKCS#8): Ed25519, or RSA for upstreams whose JWT library does not support it."""
    private: PrivateKey = generate_private_key(65_537, _NEW_BITS) if rsa else Ed25519PrivateKey.generate()
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


def thumbprint(public: dict[str, str]) -> str:
    """Return the thumbprint of a public key (RFC 7638): the same key has the same id on every replica."""
    members = {name: public[name] for name in sorted(_MEMBERS[public["kty"]])}
    digest = hashlib.sha256(json.dumps(members, separators=(",", ":")).encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def _public(private: PrivateKey) -> dict[str, str]:
    """Return the members of a public key that its thumbprint covers."""
    jwk = (
        RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
        if isinstance(private, RSAPrivateKey)
        else OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)
    )
    return {name: str(jwk[name]) for name in _MEMBERS[str(jwk["kty"])]}
