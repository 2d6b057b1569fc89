"""Signed assertions of the caller, for upstreams that verify them instead of trusting headers, and the public keys to do so.

An assertion is a JSON Web Token (RFC 7519). It names the caller of an allowed request, not the request, and is valid for
VALID_SECONDS. Assertions of others are verified in `authn.jwt_verify`. SkyAuth accepts none of its own.
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
from core.asgi import HeaderLine
from rbac.principals import Principal

VALID_SECONDS: Final = 60
RENEWAL_SECONDS: Final = 30  # an assertion that expires sooner is not sent again: a new one is made
KEYS_PATH: Final = b"/.well-known/jwks.json"
KEYS_AGE_SECONDS: Final = 300  # for how long a verifier can cache the key set


def keys() -> tuple[SigningKey, ...]:
    """Return the configured keys, of which the first signs; none if assertions are off. Raises jwt_keys.Unusable."""
    return _read(tuple(settings.ASSERTION_KEYS))


@lru_cache(1)
def _read(files: tuple[Path, ...]) -> tuple[SigningKey, ...]:
    return tuple(map(jwt_keys.read, files))


def assertion(principal: Principal, audience: str, now: float) -> str:
    """Return a signed assertion of this principal, who has an identity, issued at `now` (seconds since the epoch)."""
    key = keys()[0]
    payload = claims(principal, issuer=settings.PUBLIC_URL, audience=audience, now=int(now))
    return jwt.encode(payload, key.private, key.algorithm, headers={"kid": key.kid})


def claims(principal: Principal, *, issuer: str, audience: str, now: int) -> dict[str, Any]:
    """Return the claims of an assertion: the values of the identity headers, with the groups as an unchanged list."""
    return {
        "iss": issuer,
        "sub": principal.uid,
        "aud": audience,
        "iat": now,
        "exp": now + VALID_SECONDS,
        "email": principal.identity,
        "groups": list(principal.groups),
        "role": principal.role,
        "method": str(principal.method),
    }


def key_set(signing_keys: Iterable[SigningKey]) -> bytes:
    """Return the public keys as a JSON Web Key Set (RFC 7517 section 5)."""
    return json.dumps({"keys": [key.public() for key in signing_keys]}).encode("ascii")


def key_set_response(method: str) -> tuple[int, tuple[HeaderLine, ...], bytes]:
    """Return status, headers and body of the response with the key set."""
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
