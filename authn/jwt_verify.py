"""Verifies the signed assertions of an auth proxy: JSON Web Tokens (RFC 7519).

Keys come from configuration alone, algorithms from an allow-list; `exp`, `iss` and `aud` are required (security promise 6).
"""

import json
import threading
import time
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import jwt
from django.conf import settings

from authn.credentials import InvalidCredential

ASYMMETRIC: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
_REFRESH_SECONDS: Final = 30  # unknown key ids, which any client can send, cause at most one fetch in this time
_PATIENCE_SECONDS: Final = 0.5  # a request that waits for another's fetch holds a thread that could serve others
_MAX_AGE_SECONDS: Final = 600  # for so long a key that the provider has withdrawn can still be accepted
_LEEWAY_SECONDS: Final = 30
_MAX_ASSERTION: Final = 16_384
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999


class KeysUnavailable(Exception):
    """The key set cannot be read: a failure of SkyAuth (503), not of the credential."""


class KeySet:
    """The configured keys by key id, read at first use, after _MAX_AGE_SECONDS, and for an unknown key id."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._read_at = self._tried_at = float("-inf")

    def find(self, key_id: str) -> jwt.PyJWK | None:
        """Return the key of that id, or None. Raises KeysUnavailable."""
        key = self._keys.get(key_id)  # without the lock: a slow fetch does not delay requests whose key is cached
        if key is not None and not self._old():
            return key
        if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            if key is not None:
                return key  # too old only by the time that the current fetch takes
            raise KeysUnavailable("The key set of AUTH_JWT_JWKS is being read.")
        try:
            if (key_id not in self._keys or self._old()) and time.monotonic() - self._tried_at >= _REFRESH_SECONDS:
                self._tried_at = time.monotonic()
                self._keys = {str(key.key_id): key for key in self._read().keys if key.key_id}
                self._read_at = time.monotonic()
            if self._old():
                raise KeysUnavailable("The key set of AUTH_JWT_JWKS could not be read lately.")
            return self._keys.get(key_id)
        finally:
            self._lock.release()

    def _old(self) -> bool:
        return time.monotonic() - self._read_at >= _MAX_AGE_SECONDS

    def _read(self) -> jwt.PyJWKSet:
        try:
            if self._source.startswith(("https://", "http://")):
                return jwt.PyJWKClient(self._source, cache_keys=False, cache_jwk_set=False, timeout=5).get_jwk_set()
            return jwt.PyJWKSet.from_dict(json.loads(Path(self._source).read_text(encoding="utf-8")))
        except (jwt.PyJWTError, HTTPException, OSError, ValueError, TypeError, AttributeError) as error:
            raise KeysUnavailable(f"The key set of AUTH_JWT_JWKS cannot be read: {type(error).__name__}.") from None


@lru_cache(maxsize=4)
def _key_set(source: str) -> KeySet:
    return KeySet(source)


def verify(assertion: str) -> tuple[str, tuple[str, ...] | None]:
    """Return the subject and the groups (None when the claim is absent) of a valid assertion.

    Raises InvalidCredential, and KeysUnavailable when its key cannot be read.
    """
    if len(assertion) > _MAX_ASSERTION:
        raise _bad("too long")
    try:
        header = jwt.get_unverified_header(assertion)
    except jwt.PyJWTError:
        raise _bad("malformed") from None
    if header.get("typ", "JWT") not in ("JWT", "at+jwt") or not isinstance(header.get("kid"), str):
        raise _bad("wrong type or no key id")
    key = _key_set(settings.AUTH_JWT_JWKS).find(header["kid"])
    if key is None:
        raise _bad("unknown key")
    try:
        claims = jwt.decode(
            assertion,
            key,
            algorithms=sorted(ASYMMETRIC.intersection(settings.AUTH_JWT_ALGORITHMS)),
            issuer=settings.AUTH_JWT_ISSUER,
            audience=settings.AUTH_JWT_AUDIENCE,
            leeway=_LEEWAY_SECONDS,
            options={"require": ["exp", "iss", "aud"]},
        )
    except jwt.PyJWTError as error:
        raise _bad(type(error).__name__) from None
    return _subject(claims), _groups(claims)


def _subject(claims: dict[str, Any]) -> str:
    # PyJWT accepts a numeric string as exp, a time after the year 9999, and any JSON value as the subject's claim.
    subject = claims.get(settings.AUTH_JWT_CLAIM)
    if not isinstance(subject, str) or not isinstance(claims["exp"], int) or claims["exp"] > _LAST_SECOND:
        raise _bad("no usable subject")
    if claims.get("email_verified") not in (None, True, "true") and settings.AUTH_JWT_CLAIM == "email":
        raise _bad("e-mail address not verified")
    return subject


def _groups(claims: dict[str, Any]) -> tuple[str, ...] | None:
    groups = claims.get(settings.AUTH_JWT_GROUPS_CLAIM)
    if groups is None:
        return None
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise _bad("groups are no list of names")
    return tuple(groups)


def _bad(reason: str) -> InvalidCredential:
    return InvalidCredential(f"assertion: {reason}", method="proxy")
