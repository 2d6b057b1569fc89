"""Verifies the signed assertions of an auth proxy: JSON Web Tokens (RFC 7519).

Keys come from configuration alone, algorithms from an allow-list; `exp`, `iss` and `aud` are required (security promise 6). A
fault in the groups, which are optional, costs the groups and not the identity.
"""

import json
import threading
import time
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final, NamedTuple

import jwt
from django.conf import settings
from django.utils import timezone
from jwt.utils import base64url_decode

from authn.credentials import InvalidCredential

ASYMMETRIC: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})
_REFRESH_SECONDS: Final = 30  # unknown key ids, which any client can send, cause at most one fetch in this time
_PATIENCE_SECONDS: Final = 0.5  # a request that waits for another's fetch holds a thread that could serve others
_MAX_AGE_SECONDS: Final = 600  # for so long a key that the provider has withdrawn can still be accepted
_LEEWAY_SECONDS: Final = 30  # the difference of two clocks, for exp, nbf and iat
_TYPES: Final = ("jwt", "at+jwt")
_MAX_ASSERTION: Final = 16_384
OVERAGE: Final = (
    "You are in more groups than your identity provider sends, so your role is unknown. "
    "An administrator can let the provider send only the groups that are assigned to this application."
)
_WRONG_SIGNATURE: Final = "wrong signature"
_ODD_DATES: Final = "odd dates"
# For the audit log. The messages of PyJWT can quote what was sent.
_REASONS: Final[dict[type[jwt.PyJWTError], str]] = {
    jwt.ExpiredSignatureError: "expired (exp)",
    jwt.ImmatureSignatureError: "not valid yet (nbf or iat)",
    jwt.InvalidIssuedAtError: _ODD_DATES,
    jwt.InvalidIssuerError: "the issuer is not AUTH_JWT_ISSUER (iss)",
    jwt.InvalidAudienceError: "the audience is not AUTH_JWT_AUDIENCE (aud)",
    jwt.InvalidAlgorithmError: "the algorithm is not in AUTH_JWT_ALGORITHMS, or is not that of the key (alg)",
    jwt.DecodeError: "malformed",
}
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999


class KeysUnavailable(Exception):
    """The key set cannot be read: a failure of SkyAuth (503), not of the credential."""


class KeySet:
    """The configured keys by key id, read at first use, after _MAX_AGE_SECONDS, and for an unknown key id."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._only: jwt.PyJWK | None = None  # of a set with one key that signs, which then needs no id (RFC 7517 section 4.5)
        self._read_at = self._tried_at = float("-inf")

    def find(self, key_id: str | None, *, besides: jwt.PyJWK | None = None) -> jwt.PyJWK | None:
        """Return the key of that id, or None. `besides` is a key that did not fit, so there may be a newer one of that id.

        Raises KeysUnavailable.
        """
        key = self._get(key_id)  # without the lock: a slow fetch does not delay requests whose key is cached
        known = key is not None and key is not besides
        if known and not self._old():
            return key
        if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            if known:
                return key  # too old only by the time that the current fetch takes
            raise KeysUnavailable("The key set of AUTH_JWT_JWKS is being read.")
        try:
            key = self._get(key_id)
            if (key is None or key is besides or self._old()) and time.monotonic() - self._tried_at >= _REFRESH_SECONDS:
                self._tried_at = time.monotonic()
                keys = self._read().keys
                signing = [key for key in keys if key.public_key_use in (None, "sig")]
                self._keys = {str(key.key_id): key for key in signing if key.key_id}
                self._only = signing[0] if len(signing) == 1 else None
                self._read_at = time.monotonic()
            if self._old():
                raise KeysUnavailable("The key set of AUTH_JWT_JWKS could not be read lately.")
            return self._get(key_id)
        finally:
            self._lock.release()

    def _get(self, key_id: str | None) -> jwt.PyJWK | None:
        """Return the key of that id; the only key of the set where the assertion names none, or the key has none."""
        key = self._keys.get(key_id) if key_id is not None else None
        if key is None and self._only is not None and (key_id is None or not self._only.key_id):
            return self._only
        return key

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


class Assertion(NamedTuple):
    """The subject and the groups of a valid assertion.

    `groups` is None where SkyAuth reads no groups, and empty for a user in no group. `groups_fault` says why the groups of the
    assertion cannot be read; then there are none.
    """

    subject: str
    groups: tuple[str, ...] | None
    groups_fault: str = ""


def verify(assertion: str) -> Assertion:
    """Return what a valid assertion says. Raises InvalidCredential, and KeysUnavailable when its key cannot be read."""
    if len(assertion) > _MAX_ASSERTION:
        raise _bad("too long")
    header = _header(assertion)
    key_id, keys = header.get("kid"), _key_set(settings.AUTH_JWT_JWKS)
    key = keys.find(key_id)
    if key is None:
        raise _bad("unknown key" if key_id else "no key id, and the key set has not exactly one key")
    try:
        claims = _claims(assertion, key)
    except jwt.InvalidSignatureError:
        # A key without an id can have been replaced. Its successor is found with the next read only.
        if key.key_id and key_id:
            raise _bad(_WRONG_SIGNATURE) from None
        try:
            claims = _claims(assertion, keys.find(key_id, besides=key) or key)
        except jwt.InvalidSignatureError:
            raise _bad(_WRONG_SIGNATURE) from None
    _check_lifetime(claims)
    subject = _subject(claims)
    return Assertion(subject, *_groups(claims, subject))


def _header(assertion: str) -> dict[str, Any]:
    """Return the header, not yet verified (RFC 7515 section 4.1). No object of the assertion names a member twice."""
    try:
        header = jwt.get_unverified_header(assertion)
        for part in assertion.split(".")[:2]:
            json.loads(base64url_decode(part), object_pairs_hook=_members)
    except _RepeatedName:
        raise _bad("a repeated name") from None
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise _bad("malformed") from None
    type_ = header.get("typ", "JWT")
    if not isinstance(type_, str) or type_.lower().removeprefix("application/") not in _TYPES:  # RFC 7515 section 4.1.9
        raise _bad("wrong type")
    if not isinstance(header.get("kid"), str | None):
        raise _bad("odd key id")
    return header


class _RepeatedName(ValueError):
    """An object has two members of one name. Parsers disagree about which of them counts (RFC 8259 section 4)."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _RepeatedName
    return members


def _claims(assertion: str, key: jwt.PyJWK) -> dict[str, Any]:
    """Return the verified claims. Raises InvalidCredential, and InvalidSignatureError for a signature of another key."""
    try:
        return jwt.decode(
            assertion,
            key,
            algorithms=sorted(ASYMMETRIC.intersection(settings.AUTH_JWT_ALGORITHMS)),
            issuer=settings.AUTH_JWT_ISSUER,
            audience=settings.AUTH_JWT_AUDIENCE,
            leeway=_LEEWAY_SECONDS,
            # SkyAuth reads `sub` only where AUTH_JWT_CLAIM names it, and never `jti`.
            options={"require": ["exp", "iss", "aud"], "verify_sub": False, "verify_jti": False},
        )
    except jwt.InvalidSignatureError:
        raise
    except jwt.MissingRequiredClaimError as error:
        raise _bad(f"{error.claim} is missing") from None
    except jwt.PyJWTError as error:
        raise _bad(_REASONS.get(type(error), type(error).__name__)) from None


def _check_lifetime(claims: dict[str, Any]) -> None:
    """Raise InvalidCredential for odd dates, and for an assertion that is valid for more than AUTH_JWT_MAX_HOURS.

    The time begins at `iat`, and now where that is missing. PyJWT accepts numeric strings, and dates beyond the year 9999.
    """
    expires_at, issued_at = claims["exp"], claims.get("iat", timezone.now().timestamp())
    if any(isinstance(date, bool) or not isinstance(date, int | float) for date in (expires_at, issued_at)):
        raise _bad(_ODD_DATES)
    if expires_at > _LAST_SECOND or expires_at - issued_at > settings.AUTH_JWT_MAX_HOURS * 3_600:
        raise _bad(f"valid for more than {settings.AUTH_JWT_MAX_HOURS} hours (AUTH_JWT_MAX_HOURS)")


def _subject(claims: dict[str, Any]) -> str:
    subject = claims.get(settings.AUTH_JWT_CLAIM)
    if not isinstance(subject, str):
        raise _bad("no usable subject")
    if claims.get("email_verified") not in (None, True, "true") and settings.AUTH_JWT_CLAIM == "email":
        raise _bad("e-mail address not verified")
    return subject


def _groups(claims: dict[str, Any], subject: str) -> tuple[tuple[str, ...] | None, str]:
    """Return the groups, and what is wrong with them. Raises InvalidCredential if the provider left them out."""
    name = settings.AUTH_JWT_GROUPS_CLAIM
    if not name:
        return None, ""
    if _is_overage(claims, name):
        raise InvalidCredential(OVERAGE, method="proxy", claimed=subject, message=OVERAGE)
    match claim_at(claims, name):
        case None | "":
            return (), ""
        case str(group):
            return (group,), ""
        case list(groups) if all(isinstance(group, str) for group in groups):
            return tuple(groups), ""
        case _:
            # All of them, not only the odd one: the group of the lowest rank can be the one that limits the user.
            return (), f"the claim {name} is not a list of names"


def claim_at(claims: Any, path: str) -> Any:
    """Return the claim of this name, or at this path of names with dots between them, such as realm_access.roles; else None.

    The whole path is tried as a name first: some providers use names with dots, such as https://example.com/groups.
    """
    if not isinstance(claims, dict):
        return None
    if path in claims:
        return claims[path]
    dots = [at for at, character in enumerate(path) if character == "."]
    found = (claim_at(claims[path[:at]], path[at + 1 :]) for at in dots if path[:at] in claims)
    return next((claim for claim in found if claim is not None), None)


def _is_overage(claims: dict[str, Any], name: str) -> bool:
    """Return whether the groups are left out because they are too many (OpenID Connect Core 1.0 section 5.6.2, Entra ID)."""
    elsewhere = claims.get("_claim_names")
    names = {name, name.partition(".")[0]}
    return (isinstance(elsewhere, dict) and not names.isdisjoint(elsewhere)) or (
        name == "groups" and claims.get("hasgroups") in (True, "true")
    )


def _bad(reason: str) -> InvalidCredential:
    return InvalidCredential(f"assertion: {reason}", method="proxy")
