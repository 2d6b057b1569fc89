"""Verifies the signed assertions of an auth proxy: JSON Web Tokens (RFC 7519).

Keys come from configuration alone, algorithms from an allow-list; `exp`, `iss` and `aud` are required (security promise 6). A
fault in the groups, which are optional, costs the groups and not the identity.
"""

import json
from typing import Any, Final, NamedTuple

import jwt
from django.conf import settings
from django.utils import timezone
from jwt.utils import base64url_decode

from authn import provider_keys
from authn.credentials import InvalidCredential
from authn.provider_keys import ASYMMETRIC, ProviderKey
from authn.proxy_headers import MAX_SECTION

_LEEWAY_SECONDS: Final = 30  # the difference of two clocks, for exp, nbf and iat
_TYPES: Final = ("jwt", "at+jwt")
OVERAGE: Final = (
    "You are in more groups than your identity provider sends, so your role is unknown. "
    "An administrator can let the provider send only the groups that are assigned to this application."
)
_ODD_DATES: Final = "odd dates"
_EXPIRED: Final = "expired (exp)"
EXPIRED: Final = f"assertion: {_EXPIRED}"  # the one reason that also a good provider causes
# For the audit log. The messages of PyJWT can quote what was sent.
_REASONS: Final[dict[type[jwt.PyJWTError], str]] = {
    jwt.ExpiredSignatureError: _EXPIRED,
    jwt.ImmatureSignatureError: "not valid yet (nbf or iat)",
    jwt.InvalidIssuedAtError: _ODD_DATES,
    jwt.InvalidIssuerError: "the issuer is not AUTH_JWT_ISSUER (iss)",
    jwt.InvalidAudienceError: "the audience is not AUTH_JWT_AUDIENCE (aud)",
    jwt.DecodeError: "malformed",
}
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999


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
    if len(assertion) > MAX_SECTION:
        raise _bad("too long")
    claims = _verified(assertion, _header(assertion))
    _check_lifetime(claims)
    subject = _subject(claims)
    return Assertion(subject, *_groups(claims, subject))


def _verified(assertion: str, header: dict[str, Any]) -> dict[str, Any]:
    """Return the claims, whose signature one of the configured keys verifies. Raises InvalidCredential, and KeysUnavailable."""
    key_id, algorithm = header.get("kid"), header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ASYMMETRIC.intersection(settings.AUTH_JWT_ALGORITHMS):
        raise _bad("the algorithm is not in AUTH_JWT_ALGORITHMS (alg)")
    key_set = provider_keys.key_set(settings.AUTH_JWT_JWKS)
    keys = key_set.find(key_id, algorithm)
    if not keys and key_id:
        raise _bad(f"unknown key, or none for {algorithm} (kid)")
    if not keys:
        raise _bad(f"no key id, and the key set has not exactly one key for {algorithm}")
    claims = _claims(assertion, algorithm, keys)
    if claims is None:  # a key can have been replaced by one with the same id, or without one
        claims = _claims(assertion, algorithm, key_set.find(key_id, algorithm, besides=keys))
    if claims is None:
        raise _bad("wrong signature")
    return claims


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


def _claims(assertion: str, algorithm: str, keys: tuple[ProviderKey, ...]) -> dict[str, Any] | None:
    """Return the verified claims, or None for a signature of another key. Raises InvalidCredential."""
    for key in keys:
        try:
            return jwt.decode(
                assertion,
                key.public,
                algorithms=[algorithm],
                issuer=settings.AUTH_JWT_ISSUER,
                audience=settings.AUTH_JWT_AUDIENCE,
                leeway=_LEEWAY_SECONDS,
                # SkyAuth reads `sub` only where AUTH_JWT_CLAIM names it, and never `jti`.
                options={"require": ["exp", "iss", "aud"], "verify_sub": False, "verify_jti": False},
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.MissingRequiredClaimError as error:
            raise _bad(f"{error.claim} is missing") from None
        except jwt.PyJWTError as error:
            raise _bad(_REASONS.get(type(error), type(error).__name__)) from None
    return None


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
        raise _bad(f"the claim {settings.AUTH_JWT_CLAIM} (AUTH_JWT_CLAIM) is {'missing' if subject is None else 'not text'}")
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
