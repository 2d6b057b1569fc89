"""Shows service errors on Django forms."""

from django import forms

from core.errors import ServiceError


def add_service_error(form: forms.BaseForm, error: ServiceError) -> None:
    """Add the error of a service to the form: to the invalid fields, else to the whole form."""
    for name, texts in (error.fields or {"": [error.message]}).items():
        for text in texts:
            form.add_error(name if name in form.fields else None, text)
