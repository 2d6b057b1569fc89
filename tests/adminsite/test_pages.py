"""Every admin page: who can open it, how many queries it needs, and its security headers."""

import re
from collections.abc import Callable

import pytest
from axes.models import AccessAttempt
from django.contrib import admin
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import GroupRole, ServiceAccount, Token, User
from audit.events import Event
from audit.models import Entry
from audit.record import record
from rbac.models import Role, Route
from tests.adminsite.conftest import Visit
from tests.factories import GroupRoleFactory, ServiceAccountFactory, UserFactory, make_token, principal

OURS = {User, ServiceAccount, Token, GroupRole, Role, Route, Entry, AccessAttempt}
LISTS = sorted(f"{model._meta.app_label}_{model._meta.model_name}" for model in OURS)
ADDS = [
    "accounts_user_add",
    "accounts_serviceaccount_add",
    "accounts_grouprole_add",
    "rbac_role_add",
    "rbac_route_add",
]


def changelist(name: str) -> str:
    """Return the URL of a list."""
    return reverse(f"admin:{name}_changelist")


@pytest.fixture
def _one_row_of_each(read_write: None, alice: User, pipeline: ServiceAccount, pipeline_token: str) -> None:
    """At least one row of every model."""
    GroupRoleFactory(group="staff")
    AccessAttempt.objects.create(username="mallory", ip_address="192.0.2.1", failures_since_start=3)
    record(Event.SIGN_IN, actor=principal(alice), target="alice@example.com", data={"a": {"b": 1}})


def test_only_skyauth_models_are_registered() -> None:
    assert set(admin.site._registry) == OURS
    assert Group not in admin.site._registry


@pytest.mark.usefixtures("_one_row_of_each")
@pytest.mark.parametrize("name", LISTS)
def test_an_admin_can_open_every_list_with_search_and_filters_and_every_row(alice_browser: Client, name: str) -> None:
    assert alice_browser.get(changelist(name)).status_code == 200
    assert alice_browser.get(changelist(name), {"q": "a"}).status_code == 200
    app, model = name.split("_")
    row = next(model_ for model_ in OURS if model_._meta.model_name == model)._default_manager.first()
    for page in ("change", "history"):
        assert alice_browser.get(reverse(f"admin:{app}_{model}_{page}", args=[row.pk])).status_code == 200, page
    response = alice_browser.get(changelist(name))
    for spec in response.context["cl"].filter_specs:
        for choice in spec.choices(response.context["cl"]):
            assert alice_browser.get(changelist(name) + choice["query_string"]).status_code == 200


@pytest.mark.parametrize("name", ADDS)
def test_an_admin_can_open_every_add_form(alice_browser: Client, name: str) -> None:
    assert alice_browser.get(reverse(f"admin:{name}")).status_code == 200


@pytest.mark.usefixtures("_one_row_of_each")
@pytest.mark.parametrize("who", ["bob", "vera"])
@pytest.mark.parametrize("name", ["index", *(f"{name}_changelist" for name in LISTS), *ADDS])
def test_users_without_admin_site_use_open_no_page(who: str, name: str, visit: Visit, request: pytest.FixtureRequest) -> None:
    response = visit(request.getfixturevalue(who)).get(reverse(f"admin:{name}"))
    assert response.status_code == 403
    assert "admin-site:use" in response.text


@pytest.mark.usefixtures("_one_row_of_each")
def test_a_helpdesk_role_can_read_users_only(helper: User, bob: User, visit: Visit) -> None:
    browser = visit(helper)
    assert browser.get(reverse("admin:index")).status_code == 200
    assert {name for name in LISTS if browser.get(changelist(name)).status_code == 200} == {"accounts_user"}
    page = browser.get(reverse("admin:accounts_user_change", args=[bob.pk]))
    assert page.status_code == 200
    assert b"pipeline" not in page.content, "service accounts are hidden without service-accounts:read"
    assert b'name="_save"' not in page.content
    assert b"Set password" not in page.content


@pytest.mark.parametrize(
    ("page", "data"),
    [
        ("accounts_user_add", {"username": "eve", "password": "a long enough secret"}),
        ("accounts_user_change", {"role": "1", "email": "eve@example.com"}),
        ("accounts_user_delete", {"post": "yes"}),
        ("accounts_user_set-password", {"rows": "{pk}", "password": "a long enough secret"}),
        ("accounts_user_set-role", {"rows": "{pk}", "role": "1"}),
    ],
)
def test_a_helpdesk_role_cannot_write(page: str, data: dict[str, str], helper: User, bob: User, visit: Visit) -> None:
    needs_row = page.endswith(("change", "delete"))
    url = reverse(f"admin:{page}", args=[bob.pk] if needs_row else [])
    response = visit(helper).post(url, {name: value.format(pk=bob.pk) for name, value in data.items()})
    assert response.status_code == 403
    assert User.objects.filter(username__in=["bob@example.com", "helper@example.com"]).count() == User.objects.count() == 2
    assert User.objects.get(pk=bob.pk).password == bob.password


@pytest.mark.parametrize("action", ["set_role", "disable", "delete_selected"])
def test_a_helpdesk_role_sees_no_action_and_cannot_post_one(action: str, helper: User, bob: User, visit: Visit) -> None:
    browser = visit(helper)
    assert f'value="{action}"' not in browser.get(changelist("accounts_user")).content.decode()
    browser.post(changelist("accounts_user"), {"action": action, "_selected_action": bob.pk, "post": "yes"})
    assert User.objects.get(pk=bob.pk).is_active


def _routes(n: int) -> None:
    Route.objects.bulk_create(
        Route(position=i, path=f"/p{i}", methods=["GET"], permission="upstream:read") for i in range(1, n + 1)
    )


def _roles(n: int) -> None:
    Role.objects.bulk_create(Role(name=f"role{i}-{Role.objects.count()}", permissions=["upstream:read"]) for i in range(n))


MAKERS: dict[str, Callable[[int], object]] = {
    "accounts_user": lambda n: UserFactory.create_batch(n),
    "accounts_serviceaccount": lambda n: [make_token(ServiceAccountFactory(owner=UserFactory())) for _ in range(n)],
    "accounts_token": lambda n: [make_token(ServiceAccountFactory(owner=UserFactory())) for _ in range(n)],
    "accounts_grouprole": lambda n: GroupRoleFactory.create_batch(n),
    "audit_entry": lambda n: [record(Event.SIGN_IN, actor=principal(User.objects.all()[0]), target=f"x{i}") for i in range(n)],
    "axes_accessattempt": lambda n: [
        AccessAttempt.objects.create(username=f"m{i}-{AccessAttempt.objects.count()}", failures_since_start=1) for i in range(n)
    ],
    "rbac_role": _roles,
    "rbac_route": _routes,
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_needs_as_many_queries_for_30_rows_as_for_3(alice_browser: Client, name: str) -> None:
    counts = []
    MAKERS[name](3)
    alice_browser.get(changelist(name))  # the first page caches the content types
    for more in (0, 27):
        if more:
            MAKERS[name](more)
        with CaptureQueriesContext(connection) as queries:
            assert alice_browser.get(changelist(name)).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    "query",
    [
        "accounts_user:password__startswith=argon2",
        "accounts_user:sessions__session_key__startswith=a",
        "accounts_user:password__regex=x",
        "accounts_token:digest__startswith=a",
    ],
)
def test_lists_cannot_be_filtered_by_a_hash(alice_browser: Client, query: str) -> None:
    name, _, lookup = query.partition(":")
    assert alice_browser.get(f"{changelist(name)}?{lookup}").status_code == 400


@pytest.mark.parametrize("name", ["index", "accounts_user_changelist"])
def test_every_page_forbids_framing_inline_scripts_and_caching(name: str, alice_browser: Client) -> None:
    response = alice_browser.get(reverse(f"admin:{name}"))
    assert response.status_code == 200
    assert response["X-Frame-Options"] == "DENY"
    policy = response["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "no-store" in response["Cache-Control"]


def test_a_post_without_the_csrf_token_is_rejected(alice: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice)
    data = {"username": "eve@example.com"}
    assert strict.post(reverse("admin:accounts_user_add"), data).status_code == 403
    assert strict.post(reverse("admin:logout")).status_code == 403
    assert not User.objects.filter(username="eve@example.com").exists()


def test_the_index_links_to_the_audit_log(alice_browser: Client) -> None:
    page = alice_browser.get(reverse("admin:index")).content.decode()
    assert "audit log" in page
    assert reverse("admin:audit_entry_changelist") in page
    assert "SkyAuth" in page


def test_times_are_shown_as_iso_8601(alice_browser: Client, alice: User) -> None:
    page = alice_browser.get(reverse("admin:accounts_user_change", args=[alice.pk])).content.decode()
    assert f"{alice.created_at:%Y-%m-%d %H:%M:%S}" in page


def test_the_lockout_library_is_shown_under_names_of_skyauth(alice_browser: Client) -> None:
    row = AccessAttempt.objects.create(username="mallory", ip_address="192.0.2.1", failures_since_start=3)
    urls = [reverse("admin:index"), changelist("axes_accessattempt"), reverse("admin:app_list", args=["axes"])]
    urls += [reverse(f"admin:axes_accessattempt_{page}", args=[row.pk]) for page in ("change", "delete")]
    for url in urls:
        text = re.sub(r"<[^>]*>", " ", alice_browser.get(url).content.decode())
        assert re.search("failed sign-ins?", text, re.IGNORECASE), url
        assert not re.search(r"\baxes\b|access attempt", text, re.IGNORECASE), url
