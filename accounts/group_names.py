"""Names of groups, as the identity provider sends them: whether they are read at all, and how a list of them is split."""

from django.conf import settings


def unread_reason() -> str:
    """Return why no user gets a role from a group, as a sentence; "" where SkyAuth reads the groups of users.

    Groups are read where single sign-on is on and the header or the claim with the groups has a name. Then a request without
    groups is one of a user in no group (promise 46).
    """
    if settings.AUTH_USER_HEADER_FORMAT == "off":
        return "Single sign-on is off (AUTH_USER_HEADER_FORMAT=off), so no user gets a role from a group."
    name = "AUTH_JWT_GROUPS_CLAIM" if settings.AUTH_USER_HEADER_FORMAT == "jwt" else "AUTH_GROUPS_HEADER"
    return "" if getattr(settings, name) else f"{name} is empty, so no user gets a role from a group."


def split(text: str) -> tuple[str, ...]:
    """Return the names in a groups header, without the blanks around them."""
    return tuple(name for name in map(str.strip, text.split(settings.AUTH_GROUPS_SEPARATOR)) if name)
