"""Names of groups, as the identity provider sends them: whether they are read at all, and how a list of them is split."""

from django.conf import settings
from django.core.exceptions import ValidationError

from core.one_line import check_one_line


def unread_reason() -> str:
    """Return why no user gets a role from a group, as a sentence; "" where SkyAuth reads the groups of users.

    Groups are read where single sign-on is on and the header or the claim with the groups has a name. Then the user of a
    request without groups is in no group (promise 46).
    """
    if settings.AUTH_USER_HEADER_FORMAT == "off":
        return "Single sign-on is off (AUTH_USER_HEADER_FORMAT=off), so no user gets a role from a group."
    name = "AUTH_JWT_GROUPS_CLAIM" if settings.AUTH_USER_HEADER_FORMAT == "jwt" else "AUTH_GROUPS_HEADER"
    return "" if getattr(settings, name) else f"{name} is empty, so no user gets a role from a group."


def split(text: str) -> tuple[str, ...]:
    """Return the names in a groups header, without the blanks around them."""
    return tuple(name for name in map(str.strip, text.split(settings.AUTH_GROUPS_SEPARATOR)) if name)


def never_matches(group: str) -> str:
    """Return why no user can ever be in a group of this name, as a sentence; "" if one can."""
    if not group.strip():
        return "Write the name of a group."
    if group != group.strip():
        return "The name starts or ends with a blank. Write it without."
    try:
        check_one_line(group)
    except ValidationError as error:
        return str(error.message)
    separator = settings.AUTH_GROUPS_SEPARATOR
    if settings.AUTH_USER_HEADER_FORMAT == "plaintext" and separator in group:
        name = "a space" if separator == " " else repr(separator)
        return (
            f"The name has {name}, which separates groups (AUTH_GROUPS_SEPARATOR), so it matches no group. For several groups, "
            "add each one alone. For one group with such a name, use another separator in the auth proxy and in the setting."
        )
    return ""
