"""Which audit entries a list shows: the same for the REST API and the dashboard."""

from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, ClassVar

from django import forms
from django_filters import CharFilter, FilterSet, IsoDateTimeFilter
from django_filters.fields import IsoDateTimeField

from audit.events import Event
from audit.models import Entry
from core.filters import SearchFilter


class UtcDateTimeField(IsoDateTimeField):  # type: ignore[misc]
    """A time in UTC: PostgreSQL accepts no offset beyond 15 hours, and Python accepts 23."""

    default_error_messages: ClassVar[dict[str, str]] = {
        "invalid": "Write the time as in 2026-11-30T13:00:00Z (ISO 8601). In a URL, + is written %2B."
    }

    def to_python(self, value: Any) -> datetime | None:
        time: datetime | None = super().to_python(value)
        try:
            return time and time.astimezone(UTC)
        except OverflowError:
            raise forms.ValidationError("The time is out of range.") from None


class UtcDateTimeFilter(IsoDateTimeFilter):  # type: ignore[misc]
    """Filters by a time (ISO 8601)."""

    field_class = UtcDateTimeField


class EventNameField(forms.CharField):
    """The name of an event, also of one that only older versions recorded."""

    def clean(self, value: str | None) -> str:
        """Return the name. Raises ValidationError, with the nearest name, for an event that no version records."""
        name = str(super().clean(value))
        if name and name not in set(Event) and not Entry.objects.filter(event=name).exists():
            near = "".join(f" Did you mean {other}?" for other in get_close_matches(name, list(Event), 1))
            raise forms.ValidationError(f"There is no event named {name!r}.{near}")
        return name


class EventNameFilter(CharFilter):  # type: ignore[misc]
    """Filters by the name of an event."""

    field_class = EventNameField


class EntryFilterForm(forms.Form):
    """The values of the filters."""

    def clean(self) -> dict[str, Any]:
        """Return the values. Raises ValidationError for a period that ends before it begins, which has no entries."""
        values = super().clean() or self.cleaned_data
        if values.get("since") and values.get("until") and values["since"] > values["until"]:
            raise forms.ValidationError({"until": "The end is before the start. Exchange since and until."})
        return values


class EntryFilterSet(FilterSet):  # type: ignore[misc]
    """Filters of the audit log."""

    search = SearchFilter(
        "actor__icontains",
        "target__icontains",
        "reason__icontains",
        "reference",
        label="Words to find in the actor, the target or the reason, or a whole reference.",
    )
    event = EventNameFilter(label="The name of the event, such as `token.issued`.")
    actor = CharFilter(label="The exact name of the actor.")
    target = CharFilter(label="The exact name of the target.")
    peer = CharFilter(label="The address of the client.")
    reference = CharFilter(label="The id of the decision, as the denied caller received it.")
    since = UtcDateTimeFilter(field_name="at", lookup_expr="gte", label="Entries from this time on (ISO 8601).")
    until = UtcDateTimeFilter(field_name="at", lookup_expr="lt", label="Entries before this time (ISO 8601).")

    class Meta:
        model = Entry
        form = EntryFilterForm
        fields: ClassVar[list[str]] = []
