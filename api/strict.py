"""No name in a request is silently ignored (promise 48): a field or parameter that an operation does not have is an error."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from django.http import HttpRequest
from django.http.request import RawPostDataException
from rest_framework import serializers

from core.errors import Invalid
from core.text import clean

_SHOWN: Final = 10  # names in one response; a body can have thousands
_NAME: Final = 64
_NOTHING: Final = frozenset({b"", b"{}", b"null"})  # what clients send as the body of an operation that has none


class RequestSerializer(serializers.Serializer[Any]):
    """The fields of a body, or the parameters of a query. A field that it does not have is an error.

    The context can have `resource`, the fields of the resource, and `present`, their present values: a field that is sent back
    as it was read is accepted, even if it cannot be changed.
    """

    renamed: ClassVar[Mapping[str, str]] = {}  # the present name of a field, by a former name
    written_by_use: ClassVar[frozenset[str]] = frozenset()  # fields of the resource that differ soon after they were read

    def to_internal_value(self, data: Any) -> Any:
        """Return the validated fields. Raises ValidationError, also for fields that this serializer does not have."""
        if isinstance(data, Mapping) and (errors := dict(self._refused(data))):
            raise serializers.ValidationError(errors)
        return super().to_internal_value(data)

    def _refused(self, data: Mapping[str, Any]) -> Iterable[tuple[str, list[str]]]:
        present: Mapping[str, Any] = self.context.get("present") or {}
        names = {*self.fields}
        unknown = [name for name in data if name not in names and not (name in present and self._is_as_read(name, data[name]))]
        for name in unknown[:_SHOWN]:
            if name in self.renamed:
                text = f"The name of this field is {self.renamed[name]} now."
            elif name in present:
                text = "This field cannot be changed here."
            elif name in self.context.get("resource", ()):
                text = "This field cannot be set here."
            else:
                text = "There is no such field."
            yield clean(name, _NAME), [f"{text} {_choices('Fields', self.fields)}"]

    def _is_as_read(self, name: str, sent: Any) -> bool:
        read = self.context["present"][name]
        if sent == read or name in self.written_by_use:
            return True
        return isinstance(self.context["resource"].get(name), serializers.DateTimeField) and _is_same_time(sent, read)


def refuse_unknown_parameters(request: HttpRequest, names: Collection[str], renamed: Mapping[str, str]) -> None:
    """Raise Invalid if the query has a parameter that is not one of `names`, or one parameter twice."""
    errors = {}
    for name, values in list(request.GET.lists()):
        if name in renamed:
            errors[name] = f"The name of this parameter is {renamed[name]} now."
        elif name not in names:
            errors[name] = f"There is no such parameter. {_choices('Parameters', names)}"
        elif len(values) > 1:
            errors[name] = f"This parameter was sent {len(values)} times. Send it once."
    _raise(errors)


def refuse_empty_parameters(request: HttpRequest, names: Collection[str]) -> None:
    """Raise Invalid if one of the parameters `names` is in the query without a value: a list would not be filtered by it."""
    text = "The value is empty. Send a value, or leave the parameter out."
    _raise({name: text for name in names if request.GET.get(name) == ""})


def refuse_body(request: HttpRequest) -> None:
    """Raise Invalid if a request to an operation without a body has one: what it says would not be done."""
    try:
        body = request.body.strip()
    except RawPostDataException:  # a form, which the CSRF check has read
        body = b"form"
    if body in _NOTHING:
        return
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    text = "This operation has no body."
    _raise(dict.fromkeys(fields, text) if isinstance(fields, dict) else {"detail": text})


def present_fields(data: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these JSON members. Raises Invalid if a name is repeated (RFC 8259 section 4): which one counts?"""
    fields = dict(data)
    if len(fields) < len(data):
        counts = Counter(name for name, _ in data)
        _raise({name: f"This field was sent {count} times. Send it once." for name, count in counts.items() if count > 1})
    return fields


def _is_same_time(sent: Any, read: str | None) -> bool:
    """Return whether both are the same time, to the millisecond. Clients write a time in other ways than they read it.

    Python writes `+00:00` for `Z`, Go leaves out the zeros at the end, and JavaScript has no microseconds.
    """
    if not isinstance(sent, str) or read is None:
        return False
    try:
        difference = datetime.fromisoformat(sent) - datetime.fromisoformat(read)
    except (ValueError, TypeError, OverflowError):  # no time, or one without an offset
        return False
    return abs(difference) < timedelta(milliseconds=1)


def _choices(what: str, names: Iterable[str]) -> str:
    listed = ", ".join(names)
    return f"{what}: {listed}." if listed else f"This operation has no {what.lower()}."


def _raise(errors: Mapping[str, str]) -> None:
    if errors:
        shown = {clean(name, _NAME): text for name, text in list(errors.items())[:_SHOWN]}
        raise Invalid(" ".join(f"{name}: {text}" for name, text in shown.items()), fields={n: [t] for n, t in shown.items()})
