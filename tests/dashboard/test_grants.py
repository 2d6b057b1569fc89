"""Forms of the dashboard that give administrative permissions ask for a confirmation that names them."""

import re
from html import unescape

import pytest

from accounts.models import GroupRole, ServiceAccount, User
from accounts.services import groups
from audit.models import Entry
from rbac.models import Role
from tests.dashboard.forms import fields_of
from tests.dashboard.test_pages import words
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

ADMINISTRATIVE = "roles:write, routes:write, service-accounts:write, upstream:admin, users:write"


@pytest.fixture
def browser(visit, alice):
    """A browser in which the admin alice is signed in."""
    return visit(alice)


@pytest.fixture
def rows(bob, pipeline, system):
    """What the forms change, by name."""
    admin_owned = ServiceAccount.objects.create(
        name="night", uid="sa-00000000000000aa", owner=bob, role=Role.objects.get(name="admin")
    )
    return {
        "pipeline": pipeline.uid,
        "night": admin_owned.uid,
        "group": groups.create_group_role(actor=system, group="staff", role="user").pk,
        "admins": groups.create_group_role(actor=system, group="root", role="admin").pk,
    }


ACCOUNT = {"description": "", "owner": "alice@example.com"}
GRANTS = [
    (
        "users/new", {"username": "eve@example.com", "role": "admin"},
        "Create the user eve@example.com with the role admin.", ADMINISTRATIVE,
    ),
    (
        "service-accounts/new", {"name": "eve", "role": "admin", "owner": "", "days": "3"},
        "Create the service account eve with the role admin.", ADMINISTRATIVE,
    ),
    (
        "service-accounts/{pipeline}/change", {**ACCOUNT, "role": "admin"},
        "Change the role of the service account pipeline from user to admin and the owner of pipeline from bob@example.com to ",
        ADMINISTRATIVE,
    ),
    (
        "service-accounts/{night}/change", {**ACCOUNT, "role": "admin"},
        "Change the owner of night from bob@example.com to alice@example.com.", ADMINISTRATIVE,
    ),
    (
        "access/groups/new", {"group": "eve", "role": "admin", "priority": "5"},
        "Map the group eve to the role admin with priority 5.", ADMINISTRATIVE,
    ),
    (
        "access/groups/{group}", {"role": "admin", "priority": "100"},
        "Map the group staff to the role admin with priority 100.", ADMINISTRATIVE,
    ),
    (
        "access/groups/{admins}", {"role": "admin", "priority": "1"},
        "Map the group root to the role admin with priority 1.", ADMINISTRATIVE,
    ),
    (
        "access/groups/{group}", {"role": "user", "priority": "101"},
        "Map the group staff to the role user with priority 101, so that other groups can decide for its members.",
        ADMINISTRATIVE,
    ),
    (
        "access/new-role", {"name": "eve", "permissions": ["users:write", "users:read"]},
        "Create the role eve.", "users:write",
    ),
    (
        "access/roles/user", {"permissions": ["upstream:admin", "upstream:read", "roles:write"], "version": "1"},
        "Change the role user, which 3 users, service accounts and groups have.", "roles:write, upstream:admin",
    ),
]  # fmt: skip
NAMES = [path for path, *_ in GRANTS]


def state():
    """Return everything that could have been given."""
    return [
        sorted(map(str, model.objects.values_list(*names)))
        for model, names in (
            (User, ("username", "role__name")),
            (ServiceAccount, ("name", "role__name", "owner__username")),
            (GroupRole, ("group", "role__name", "priority")),
            (Role, ("name", "permissions")),
        )
    ]


def send(browser, path, sent):
    """Fill in a form of the page at the path and submit it."""
    page = browser.get(f"/skyauth/{path.removesuffix('/change')}")
    hidden = {name: value for name, value in fields_of(page.text).items() if name in {"nonce", "seen_role", "seen_priority"}}
    return browser.post(f"/skyauth/{path}", {**hidden, **sent})


def statement_of(response):
    """Return the statement that the page asks to confirm, and whether its checkbox is checked."""
    found = re.search(r'<input type="checkbox" name="confirmation" value="([^"]+)"([^>]*)>', response.text)
    return (unescape(found[1]), "checked" in found[2]) if found else ("", False)


@pytest.mark.parametrize(("path", "sent", "doing", "adds"), GRANTS, ids=NAMES)
def test_promise_55_a_form_gives_administrative_permissions_after_a_confirmation_that_names_them(
    browser, rows, path, sent, doing, adds
):
    path, before, entries = path.format(**rows), state(), Entry.objects.count()
    asked = send(browser, path, sent)
    assert asked.status_code == 422
    statement, checked = statement_of(asked)
    assert not checked
    assert statement.startswith(doing)
    assert statement.endswith(f" {adds}.")
    assert "To confirm, check this box" in words(asked)
    assert state() == before
    assert Entry.objects.count() == entries
    other = send(browser, path, {**sent, "confirmation": statement + "x"})
    assert statement_of(other) == (statement, False)
    assert state() == before
    done = send(browser, path, {**sent, "confirmation": statement})
    assert done.status_code in {200, 302}
    assert state() != before
    assert Entry.objects.count() > entries


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("users/new", {"username": "eve@example.com", "role": "user"}),
        ("service-accounts/new", {"name": "eve", "role": "user", "owner": "", "days": "3"}),
        ("service-accounts/{pipeline}/change", {**ACCOUNT, "role": "user"}),
        ("access/groups/new", {"group": "eve", "role": "user", "priority": "5"}),
        ("access/groups/{admins}", {"role": "admin", "priority": "200"}),
        ("access/groups/{admins}", {"role": "user", "priority": "1"}),
        ("access/new-role", {"name": "eve", "permissions": ["users:read"]}),
        ("access/roles/user", {"permissions": ["upstream:read"], "version": "1"}),
    ],
)
def test_a_form_that_gives_no_administrative_permission_asks_nothing(browser, rows, path, sent):
    before = state()
    assert send(browser, path.format(**rows), sent).status_code in {200, 302}
    assert state() != before


def test_a_password_that_was_typed_before_an_error_is_asked_for_again(browser):
    sent = {"username": "eve@example.com", "role": "admin", "password": "an entirely new secret"}
    asked = browser.post("/skyauth/users/new", sent)
    again = fields_of(asked.text)
    assert "an entirely new secret" not in asked.text
    assert re.search(r'<input type="password"[^>]* required', asked.text)
    confirmed = {**again, "role": "admin", "confirmation": statement_of(asked)[0]}
    response = browser.post("/skyauth/users/new", confirmed)
    assert (response.status_code, "Enter the password again." in response.text) == (422, True)
    assert not User.objects.filter(username="eve@example.com").exists()
    browser.post("/skyauth/users/new", {**confirmed, "password": sent["password"]})
    assert User.objects.get(username="eve@example.com").check_password(sent["password"])


def test_a_user_who_cannot_give_a_role_is_told_so_and_not_asked(visit):
    helper = UserFactory(role=Role.objects.create(name="helpdesk", permissions=["roles:read", "roles:write"]))
    sent = {"name": "boss", "permissions": ["users:write"]}
    response = visit(helper).post("/skyauth/access/new-role", sent)
    assert statement_of(response) == ("", False)
    assert not Role.objects.filter(name="boss").exists()
