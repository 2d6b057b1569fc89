"""The password hasher, and the maximum length of passwords."""

from typing import Final

from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.core.exceptions import ValidationError

MAX_PASSWORD: Final = 1_024


class Argon2idHasher(Argon2PasswordHasher):
    """Argon2id at OWASP's minimum (19 MiB, two passes, one lane): a tenth of Django's default cost (ADR 0005)."""

    time_cost = 2
    memory_cost = 19_456
    parallelism = 1


class MaximumLengthValidator:
    """Rejects passwords that some clients cannot send: with control characters, or longer than MAX_PASSWORD characters."""

    def validate(self, password: str, user: AbstractBaseUser | None = None) -> None:  # noqa: ARG002 - Django's signature
        """Raise ValidationError for such a password."""
        if len(password) > MAX_PASSWORD:
            raise ValidationError(f"This password is longer than {MAX_PASSWORD} characters.", code="password_too_long")
        if any(ord(c) < 0x20 or ord(c) == 0x7F for c in password):
            raise ValidationError("This password has a control character.", code="password_control_character")

    def get_help_text(self) -> str:
        return f"Your password can have at most {MAX_PASSWORD} characters and no control characters."
