"""The signed assertion: who calls, for upstreams that verify rather than trust, and the keys with which they do.

It is a JSON Web Token (RFC 7519). It says who was let through, not what was asked for, and stands for LIFE_SECONDS. What others
sign is verified in `authn.jwt_verify`; nothing here reads an assertion, and SkyAuth accepts none of its own.
"""

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import jwt
from django.conf import settings

from authn import jwt_keys
from authn.jwt_keys import SigningKey
from gateway.headers import HeaderLine
from rbac.principals import Principal

LIFE_SECONDS: Final = 60
LEFT_SECONDS: Final = 30  # with less than that left, another is made
KEYS_PATH: Final = b"/.well-known/jwks.json"
KEYS_AGE_SECONDS: Final = 300  # for so long a verifier need not ask again


def keys() -> tuple[SigningKey, ...]:
    """Return the configured keys, of which the first signs; none where the feature is off. Raises signing.Unusable."""
    return _read(tuple(settings.ASSERTION_KEYS))


@lru_cache(1)
def _read(files: tuple[Path, ...]) -> tuple[SigningKey, ...]:
    return tuple(map(jwt_keys.read, files))


def assertion(principal: Principal, audience: str, now: float) -> str:
    """Return the assertion that this principal, who has an identity, was let through at `now` (seconds since the epoch)."""
    first = keys()[0]
    said = claims(principal, issuer=settings.PUBLIC_URL, audience=audience, now=int(now))
    return jwt.encode(said, first.private, first.algorithm, headers={"kid": first.kid})


def claims(principal: Principal, *, issuer: str, audience: str, now: int) -> dict[str, Any]:
    """Return what an assertion says: the same as the identity headers, with the groups as a list and as they are."""
    return {
        "iss": issuer,
        "sub": principal.uid,
        "aud": audience,
        "iat": now,
        "exp": now + LIFE_SECONDS,
        "email": principal.identity,
        "groups": list(principal.groups),
        "role": principal.role,
        "method": str(principal.method),
    }


def key_set(of: Iterable[SigningKey]) -> bytes:
    """Return the public halves as a key set (RFC 7517 section 5)."""
    return json.dumps({"keys": [each.public() for each in of]}).encode("ascii")


def published(method: str) -> tuple[int, tuple[HeaderLine, ...], bytes]:
    """Return status, headers and body of the answer to whoever asks for the key set."""
    if method not in {"GET", "HEAD"}:
        return 405, ((b"allow", b"GET, HEAD"), (b"content-length", b"0")), b""
    content = key_set(keys())
    return (
        200,
        (
            (b"content-type", b"application/jwk-set+json"),
            (b"cache-control", b"public, max-age=%d" % KEYS_AGE_SECONDS),
            (b"content-length", str(len(content)).encode()),
            (b"x-content-type-options", b"nosniff"),
        ),
        content,
    )
