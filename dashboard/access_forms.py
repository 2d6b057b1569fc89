"""The forms of the section Access. They parse the values; the services validate them."""

from collections.abc import Sequence
from typing import Any, Final

from django import forms

from core.numbers import WholeNumberField
from core.paths import MAX_PATH
from dashboard.lists import ListFilter
from rbac.patterns import MAX_PATTERN
from rbac.permissions import MEANINGS, Permission

MAX_PRIORITY: Final = 2_147_483_647  # PostgreSQL's integer
_PLAIN: Final = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

Choices = Sequence[tuple[str, Sequence[tuple[Permission, str]]]]


class RoleForm(forms.Form):
    """Changes a role."""

    description = forms.CharField(label="Description", max_length=200, required=False)
    permissions = forms.MultipleChoiceField(label="Permissions", required=False, widget=forms.CheckboxSelectMultiple)
    version = WholeNumberField(widget=forms.HiddenInput)

    def __init__(self, *args: Any, choices: Choices, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.groups = choices
        self.fields["permissions"].choices = [  # type: ignore[attr-defined]
            (str(name), meaning) for _, rows in choices for name, meaning in rows
        ]

    @property
    def boxes(self) -> list[tuple[str, list[tuple[Permission, str, bool]]]]:
        """The permissions under their headings, each with its name, its meaning and whether it is checked."""
        checked = frozenset(self["permissions"].value() or ())
        return [(title, [(name, meaning, name in checked) for name, meaning in rows]) for title, rows in self.groups]

    def clean_permissions(self) -> list[str]:
        """Return the names, without the permission that every caller has."""
        return [name for name in self.cleaned_data["permissions"] if name != Permission.UPSTREAM_PUBLIC]


class NewRoleForm(RoleForm):
    """Creates a role."""

    version = None  # type: ignore[assignment] # how Django removes an inherited field
    name = forms.CharField(
        label="Name",
        max_length=32,
        help_text="Lower-case letters, digits and hyphens, for example release-manager. You cannot change it later.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    field_order = ("name", "description", "permissions")


class RouteForm(forms.Form):
    """A route and its position. `seen` is the tag of the route table that the page showed."""

    methods = forms.CharField(
        label="Methods",
        max_length=500,
        help_text="Upper-case method names separated by commas, for example GET, HEAD. * matches every method.",
        widget=forms.TextInput(attrs={**_PLAIN, "placeholder": "GET, HEAD"}),
    )
    host = forms.CharField(
        label="Host",
        max_length=253,
        required=False,
        help_text="For example api.example.com. Empty: any host.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    path = forms.CharField(
        label="Path",
        max_length=MAX_PATTERN,
        strip=False,
        help_text="* matches one path segment. ** at the end matches all that follow. Examples: /jobs/*/logs, /api/**.",
        widget=forms.TextInput(attrs={**_PLAIN, "placeholder": "/api/**"}),
    )
    permission = forms.ChoiceField(
        label="Required permission", choices=[(str(name), f"{name} · {meaning}") for name, meaning in MEANINGS.items()]
    )
    note = forms.CharField(label="Note", max_length=200, required=False, help_text="Why the route exists.")
    position = WholeNumberField(
        label="Position",
        required=False,
        min_value=1,
        max_value=1_000_000,
        help_text="The first matching route decides. Empty: for a new route, the last position at which it can decide.",
    )
    seen = forms.CharField(max_length=64, widget=forms.HiddenInput)

    def clean_methods(self) -> tuple[str, ...]:
        """Return the method names; the service validates them."""
        return tuple(dict.fromkeys(self.cleaned_data["methods"].replace(",", " ").split()))


class RouteFilter(ListFilter):
    """Filters the list of routes."""

    q = forms.CharField(
        label="Search",
        required=False,
        max_length=500,
        widget=forms.TextInput(attrs={"type": "search", "placeholder": "path, host or note, or a full path such as /jobs/7"}),
    )
    host = forms.ChoiceField(label="Host", required=False)
    method = forms.ChoiceField(label="Method", required=False, choices=[("", "all"), *((name, name) for name in METHODS)])
    permission = forms.ChoiceField(label="Permission", required=False)

    def __init__(self, query: Any, *, hosts: Sequence[str], permissions: Sequence[str]) -> None:
        super().__init__(query, auto_id="filter_%s")
        self.fields["host"].choices = [("", "all"), *((host, host) for host in hosts)]  # type: ignore[attr-defined]
        self.fields["permission"].choices = [("", "all"), *((name, name) for name in permissions)]  # type: ignore[attr-defined]


class GroupFilter(ListFilter):
    """Filters the list of groups."""

    q = forms.CharField(
        label="Search", required=False, max_length=200, widget=forms.TextInput(attrs={"type": "search", "placeholder": "group"})
    )


class GroupForm(forms.Form):
    """The role that a group maps to, and its priority."""

    role = forms.ChoiceField(label="Role")
    priority = WholeNumberField(
        label="Priority",
        min_value=0,
        max_value=MAX_PRIORITY,
        initial=100,
        help_text="If a user is in several groups, the group with the lowest number decides.",
    )

    def __init__(self, *args: Any, roles: Sequence[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["role"].choices = roles  # type: ignore[attr-defined]


class NewGroupForm(GroupForm):
    """Maps a group to a role."""

    group = forms.CharField(
        label="Group",
        max_length=200,
        strip=False,
        help_text="The name of one group, as the identity provider sends it.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    field_order = ("group", "role", "priority")


class SeenGroupForm(forms.Form):
    """The mapping that the page showed, so that a change of somebody else in the meantime is noticed."""

    seen_role = forms.CharField(max_length=32, widget=forms.HiddenInput)
    seen_priority = WholeNumberField(widget=forms.HiddenInput)


class ChangeGroupForm(GroupForm, SeenGroupForm):
    """Changes the role that a group maps to."""


class TryRequestForm(forms.Form):
    """A request to try. `others` says whether the user is allowed to name another caller."""

    who = forms.CharField(
        label="Caller",
        required=False,
        max_length=320,
        help_text="The name or ID of a user or service account, or anonymous. Empty: yourself.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    method = forms.CharField(
        label="Method", max_length=32, initial="GET", widget=forms.TextInput(attrs={**_PLAIN, "list": "methods"})
    )
    host = forms.CharField(
        label="Host",
        required=False,
        max_length=300,
        help_text="Empty: only routes for any host apply.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    path = forms.CharField(
        label="Path",
        max_length=MAX_PATH,
        strip=False,
        help_text="The path that the client sends, for example /jobs/7/logs.",
        widget=forms.TextInput(attrs={**_PLAIN, "placeholder": "/"}),
    )

    def __init__(self, *args: Any, others: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not others:
            del self.fields["who"]

    def clean_method(self) -> str:
        """Return the method in upper case."""
        return str(self.cleaned_data["method"]).upper()
