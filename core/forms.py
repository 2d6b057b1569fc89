"""What forms of the dashboard and the Django admin share: service errors, confirmations, and new passwords."""

from collections.abc import Mapping
from typing import Any, Final

from django import forms
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core.errors import ServiceError

CONFIRMATION: Final = "confirmation"
NOT_REPEATED: Final = object()


def add_service_error(form: forms.BaseForm, error: ServiceError) -> None:
    """Add the error of a service to the form: to the invalid fields, else to the whole form."""
    for name, texts in (error.fields or {"": [error.message]}).items():
        for text in texts:
            form.add_error(name if name in form.fields else None, text)


class NewPasswordInput(forms.PasswordInput):
    """The input of an optional new password. After an error elsewhere on the form, it must be typed again: it is never echoed,
    and without it the form would mean a user without a password.
    """

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> Any:
        """Return the password; `NOT_REPEATED` if it was typed before an error and not since."""
        value = super().value_from_datadict(data, files, name)
        return NOT_REPEATED if not value and data.get(f"{name}-typed") else value

    def render(self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None) -> SafeString:
        """Return the empty input, and a hidden one that remembers that there was a password."""
        required = {"required": True} if value else {}
        html = super().render(name, None, {**(attrs or {}), **required}, renderer)
        return format_html('{}<input type="hidden" name="{}-typed" value="1">', html, name) if value else html


class NewPasswordField(forms.CharField):
    """An optional new password."""

    widget = NewPasswordInput

    def clean(self, value: Any) -> Any:
        """Return the password. Raises ValidationError if it must be typed again."""
        if value is NOT_REPEATED:
            raise forms.ValidationError("Enter the password again. The form does not keep it after an error.")
        return super().clean(value)


class Checkbox(forms.CheckboxInput):
    """A checkbox beside a statement, which sends the statement: checking it confirms this statement and no other."""

    def __init__(self, statement: str) -> None:
        super().__init__(attrs={"value": statement})

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> bool:  # noqa: ARG002 - Django's signature
        """Return whether exactly this statement was sent."""
        return bool(data.get(name) == self.attrs["value"])


class ConfirmationField(forms.BooleanField):
    """The confirmation of one statement."""

    def __init__(self, statement: str) -> None:
        super().__init__(label=statement, required=False, widget=Checkbox(statement))

    def has_changed(self, initial: Any, data: Any) -> bool:  # noqa: ARG002 - Django's signature
        """Return False: a confirmation is not a value of the object that the form changes."""
        return False


def require_confirmation(form: forms.BaseForm, statement: str) -> bool:
    """Return whether the user has confirmed this statement; "" needs no confirmation.

    If not, the form has an error and a checkbox with the statement, and the user can submit it again.
    """
    if not statement:
        return True
    form.fields[CONFIRMATION] = ConfirmationField(statement)
    if form[CONFIRMATION].data:
        return True
    form.add_error(CONFIRMATION, "Nothing was saved. To confirm, check this box and submit the form again.")
    return False
