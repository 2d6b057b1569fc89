"""Forms of the Django admin that give administrative permissions ask for a confirmation that names them."""

from typing import Any

import pytest
from django.test import Client

from accounts.models import GroupRole, ServiceAccount, User
from accounts.services import groups
from rbac.models import Role
from rbac.principals import Principal
from tests.adminsite.browsing import changed, confirmation_on, fill, form_errors, form_of
from tests.factories import ServiceAccountFactory

pytestmark = pytest.mark.django_db

GRANTS: list[tuple[str, str, dict[str, Any], str]] = [
    (
        "accounts/user/add/", "user_form",
        {"username": "eve", "password": "an entirely new secret", "role": "admin"}, "Create the user eve with the role admin.",
    ),
    ("accounts/user/{bob}/change/", "user_form", {"role": "admin"}, "Change the role of bob@example.com from user to admin."),
    ("accounts/user/set-role/?rows={bob}", "step-form", {"role": "admin"},
     "Change the role of bob@example.com from user to admin."),
    ("accounts/serviceaccount/add/", "serviceaccount_form", {"name": "eve", "role": "admin"},
     "Create the service account eve with the role admin."),
    ("accounts/serviceaccount/{free}/change/", "serviceaccount_form", {"role": "admin"},
     "Change the role of the service account free from user to admin."),
    ("accounts/serviceaccount/set-role/?rows={free}", "step-form", {"role": "admin"},
     "Change the role of the service account free from user to admin."),
    ("accounts/grouprole/add/", "grouprole_form", {"group": "eve", "role": "admin"},
     "Map the group eve to the role admin with priority 100."),
    ("accounts/grouprole/{staff}/change/", "grouprole_form", {"role": "admin"},
     "Map the group staff to the role admin with priority 100."),
    ("rbac/role/add/", "role_form", {"name": "eve", "permissions": ["users:write"]}, "Create the role eve."),
    ("rbac/role/{user}/change/", "role_form", {"permissions": ["users:write"]},
     "Change the role user, which 3 users, service accounts and groups have."),
]  # fmt: skip


@pytest.fixture
def rows(bob: User, system: Principal) -> dict[str, int]:
    """What the forms change, by name."""
    return {
        "bob": bob.pk,
        "free": ServiceAccountFactory(name="free", owner=None, role=Role.objects.get(name="user")).pk,
        "staff": groups.create_group_role(actor=system, group="staff", role="user").pk,
        "user": Role.objects.get(name="user").pk,
    }


def administrative() -> int:
    """Return how many users, accounts, groups and roles have an administrative permission."""
    names = [role.pk for role in Role.objects.all() if role.is_administrative]
    return len(names) + sum(model.objects.filter(role__in=names).count() for model in (User, ServiceAccount, GroupRole))


@pytest.mark.parametrize(("path", "form", "typed", "doing"), GRANTS, ids=[path for path, *_ in GRANTS])
def test_promise_55_the_admin_gives_administrative_permissions_after_a_confirmation(
    alice_browser: Client, rows: dict[str, int], path: str, form: str, typed: dict[str, Any], doing: str
) -> None:
    url, before = f"/admin/{path.format(**rows)}", administrative()
    if typed.get("role") == "admin":
        typed = {**typed, "role": Role.objects.get(name="admin").pk}
    asked = fill(alice_browser, url, form, **typed)
    assert form_errors(asked) == {"confirmation": ["Nothing was saved. To confirm, check this box and submit the form again."]}
    assert confirmation_on(asked).startswith(f"{doing} This adds the administrative permission")
    assert administrative() == before
    again = {"confirmation": confirmation_on(asked), **({"password": typed["password"]} if "password" in typed else {})}
    alice_browser.post(url.partition("?")[0], changed(form_of(asked, form), **again))
    assert administrative() > before


def test_a_password_that_was_typed_before_an_error_is_asked_for_again(alice_browser: Client) -> None:
    typed = {"username": "eve@example.com", "password": "an entirely new secret", "sign_in": "nonsense"}
    refused = fill(alice_browser, "/admin/accounts/user/add/", "user_form", **typed)
    again = alice_browser.post("/admin/accounts/user/add/", changed(form_of(refused, "user_form"), sign_in=""))
    assert "Enter the password again" in str(form_errors(again))
    assert not User.objects.filter(username="eve@example.com").exists()
