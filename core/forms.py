"""Shows service errors on Django forms, and asks on a form for the confirmation of one statement."""

from collections.abc import Mapping
from typing import Any, Final

from django import forms

from core.errors import ServiceError

CONFIRMATION: Final = "confirmation"


def add_service_error(form: forms.BaseForm, error: ServiceError) -> None:
    """Add the error of a service to the form: to the invalid fields, else to the whole form."""
    for name, texts in (error.fields or {"": [error.message]}).items():
        for text in texts:
            form.add_error(name if name in form.fields else None, text)


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
