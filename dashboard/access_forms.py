"""The forms of the pages about access. What they ask for is judged by the services; a form only reads it."""

from collections.abc import Sequence
from typing import Any, Final

from django import forms

from core.paths import MAX_PATH
from rbac.patterns import MAX_PATTERN
from rbac.permissions import MEANINGS, Permission
from rbac.routes import ANY_METHOD

MAX_PRIORITY: Final = 2_147_483_647  # PostgreSQL's integer
_PLAIN: Final = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

Choices = Sequence[tuple[str, Sequence[tuple[Permission, str]]]]


class RoleForm(forms.Form):
    """What can be changed of a role."""

    description = forms.CharField(label="What it is for", max_length=200, required=False)
    permissions = forms.MultipleChoiceField(label="May", required=False, widget=forms.CheckboxSelectMultiple)
    version = forms.IntegerField(widget=forms.HiddenInput)

    def __init__(self, *args: Any, choices: Choices, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.groups = choices
        self.fields["permissions"].choices = [  # type: ignore[attr-defined]
            (str(name), meaning) for _, rows in choices for name, meaning in rows
        ]

    @property
    def boxes(self) -> list[tuple[str, list[tuple[Permission, str, bool]]]]:
        """The permissions in their groups: each name, what it means, and whether it is ticked."""
        ticked = frozenset(self["permissions"].value() or ())
        return [(title, [(name, meaning, name in ticked) for name, meaning in rows]) for title, rows in self.groups]

    def clean_permissions(self) -> list[str]:
        """Return the names, without what everybody holds anyway."""
        return [name for name in self.cleaned_data["permissions"] if name != Permission.UPSTREAM_PUBLIC]


class NewRole(RoleForm):
    """A new role."""

    version = None  # type: ignore[assignment] # Django's way to take a declared field off
    name = forms.CharField(
        label="Name",
        max_length=32,
        help_text="Lower-case letters, digits and hyphens, such as release-manager. It stays as it is.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    field_order = ("name", "description", "permissions")


class RouteForm(forms.Form):
    """A route and its place. `seen` is the tag of the table that the person looked at."""

    methods = forms.CharField(
        label="Methods",
        max_length=500,
        help_text="Upper-case names, such as GET, HEAD; or * for all.",
        widget=forms.TextInput(attrs={**_PLAIN, "placeholder": "GET, HEAD"}),
    )
    host = forms.CharField(
        label="Host",
        max_length=253,
        required=False,
        help_text="Such as api.example.com. Empty: any host.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    path = forms.CharField(
        label="Path",
        max_length=MAX_PATTERN,
        strip=False,
        help_text="* stands for one part of a path, ** at its end for all that follows: /jobs/*/logs, /api/**.",
        widget=forms.TextInput(attrs={**_PLAIN, "placeholder": "/api/**"}),
    )
    permission = forms.ChoiceField(
        label="Needs", choices=[(str(name), f"{name} · {meaning}") for name, meaning in MEANINGS.items()]
    )
    note = forms.CharField(label="Note", max_length=200, required=False, help_text="Why the route is there.")
    position = forms.IntegerField(
        label="Place", required=False, min_value=1, max_value=1_000_000, help_text="The first route that matches decides."
    )
    seen = forms.CharField(max_length=64, widget=forms.HiddenInput)

    def clean_methods(self) -> tuple[str, ...]:
        """Return the names of the methods; the service judges them."""
        names = tuple(dict.fromkeys(self.cleaned_data["methods"].replace(",", " ").split()))
        return (ANY_METHOD,) if ANY_METHOD in names else names


class RouteFilter(forms.Form):
    """Which routes a list shows."""

    q = forms.CharField(
        label="Search",
        required=False,
        max_length=500,
        widget=forms.TextInput(attrs={"type": "search", "placeholder": "path, host, note; or a whole path such as /jobs/7"}),
    )
    host = forms.ChoiceField(label="Host", required=False)
    method = forms.ChoiceField(label="Method", required=False, choices=[("", "all"), *((name, name) for name in METHODS)])
    permission = forms.ChoiceField(label="Needs", required=False)

    def __init__(self, asked: Any, *, hosts: Sequence[str], permissions: Sequence[str]) -> None:
        super().__init__(asked, auto_id="filter_%s")
        self.fields["host"].choices = [("", "all"), *((host, host) for host in hosts)]  # type: ignore[attr-defined]
        self.fields["permission"].choices = [("", "all"), *((name, name) for name in permissions)]  # type: ignore[attr-defined]


class GroupFilter(forms.Form):
    """Which groups a list shows."""

    q = forms.CharField(
        label="Search", required=False, max_length=200, widget=forms.TextInput(attrs={"type": "search", "placeholder": "group"})
    )


class GroupForm(forms.Form):
    """Which role a group gives, and its rank; `seen` says what the person looked at."""

    role = forms.ChoiceField(label="Gives the role")
    priority = forms.IntegerField(
        label="Rank",
        min_value=0,
        max_value=MAX_PRIORITY,
        initial=100,
        help_text="Of a person's groups, the one with the lowest number decides.",
    )

    def __init__(self, *args: Any, roles: Sequence[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["role"].choices = roles  # type: ignore[attr-defined]


class NewGroup(GroupForm):
    """A group that gives no role yet."""

    group = forms.CharField(
        label="Group",
        max_length=200,
        help_text="As the identity provider names it in the header that the proxy sends.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    field_order = ("group", "role", "priority")


class SeenGroup(forms.Form):
    """A group that gives a role, as the person saw it: somebody else may have changed it meanwhile."""

    seen_role = forms.CharField(max_length=32, widget=forms.HiddenInput)
    seen_priority = forms.IntegerField(widget=forms.HiddenInput)


class KnownGroup(GroupForm, SeenGroup):
    """What can be changed of it."""


class Question(forms.Form):
    """A request that somebody might make."""

    who = forms.CharField(
        label="Who",
        required=False,
        max_length=320,
        help_text="A person's or a service account's name or id, or anonymous. Empty: you.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    method = forms.CharField(
        label="Method", max_length=32, initial="GET", widget=forms.TextInput(attrs={**_PLAIN, "list": "methods"})
    )
    host = forms.CharField(
        label="Host",
        required=False,
        max_length=300,
        help_text="Empty: only routes for any host are asked.",
        widget=forms.TextInput(attrs=_PLAIN),
    )
    path = forms.CharField(
        label="Path",
        max_length=MAX_PATH,
        strip=False,
        help_text="As a client sends it, such as /jobs/7/logs.",
        widget=forms.TextInput(attrs={**_PLAIN, "placeholder": "/"}),
    )

    def __init__(self, *args: Any, others: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not others:
            del self.fields["who"]

    def clean_method(self) -> str:
        """Return the method as it is sent."""
        return str(self.cleaned_data["method"]).upper()
