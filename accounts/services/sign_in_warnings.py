"""Users who cannot sign in, because they have no password and single sign-on is off: interfaces warn where one is made."""

from collections.abc import Iterable
from typing import Final

from django.conf import settings

from accounts.models import SignIn, User

MOST_NAMES: Final = 5


def warning_about(user: User) -> str:
    """Return a warning if this user cannot sign in, or ""."""
    return warning_about_names([user.username] if user.sign_in == SignIn.SSO else [])


def warning_about_names(names: Iterable[str]) -> str:
    """Return a warning about the users of these names, who sign in through single sign-on only, or "" while that is on."""
    names = list(names)
    if not names or settings.AUTH_USER_HEADER_FORMAT != "off":
        return ""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (
        f"Single sign-on is off (AUTH_USER_HEADER_FORMAT=off), so without a password these users cannot sign in: "
        f"{', '.join(names[:MOST_NAMES])}{more}. Set their passwords, or turn single sign-on on."
    )
