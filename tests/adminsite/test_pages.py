"""Every page: who may open it, what it costs, what it says of itself to the browser."""

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
    """Return the address of a list."""
    return reverse(f"admin:{name}_changelist")


@pytest.fixture
def _furnished(read_write: None, alice: User, pipeline: ServiceAccount, pipeline_token: str) -> None:
    """At least one row of everything."""
    GroupRoleFactory(group="staff")
    AccessAttempt.objects.create(username="mallory", ip_address="192.0.2.1", failures_since_start=3)
    record(Event.SIGN_IN, actor=principal(alice), target="alice@example.com", data={"a": {"b": 1}})


def test_only_our_models_are_there_and_django_s_groups_are_not() -> None:
    assert set(admin.site._registry) == OURS
    assert Group not in admin.site._registry


@pytest.mark.usefixtures("_furnished")
@pytest.mark.parametrize("name", LISTS)
def test_alice_opens_every_list_with_its_search_filters_and_every_row_s_page(office: Client, name: str) -> None:
    assert office.get(changelist(name)).status_code == 200
    assert office.get(changelist(name), {"q": "a"}).status_code == 200
    app, model = name.split("_")
    row = next(model_ for model_ in OURS if model_._meta.model_name == model)._default_manager.first()
    for page in ("change", "history"):
        assert office.get(reverse(f"admin:{app}_{model}_{page}", args=[row.pk])).status_code == 200, page
    response = office.get(changelist(name))
    for spec in response.context["cl"].filter_specs:
        for choice in spec.choices(response.context["cl"]):
            assert office.get(changelist(name) + choice["query_string"]).status_code == 200


@pytest.mark.parametrize("name", ADDS)
def test_alice_opens_every_form_to_add(office: Client, name: str) -> None:
    assert office.get(reverse(f"admin:{name}")).status_code == 200


@pytest.mark.usefixtures("_furnished")
@pytest.mark.parametrize("who", ["bob", "vera"])
@pytest.mark.parametrize("name", ["index", *(f"{name}_changelist" for name in LISTS), *ADDS])
def test_bob_and_vera_are_sent_to_the_login_page(who: str, name: str, visit: Visit, request: pytest.FixtureRequest) -> None:
    response = visit(request.getfixturevalue(who)).get(reverse(f"admin:{name}"))
    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/")


@pytest.mark.usefixtures("_furnished")
def test_the_helper_reads_users_and_nothing_else(helper: User, bob: User, visit: Visit) -> None:
    desk = visit(helper)
    assert desk.get(reverse("admin:index")).status_code == 200
    assert {name for name in LISTS if desk.get(changelist(name)).status_code == 200} == {"accounts_user"}
    page = desk.get(reverse("admin:accounts_user_change", args=[bob.pk]))
    assert page.status_code == 200
    assert b"pipeline" not in page.content, "who may not read service accounts is not told of them here"
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
def test_the_helper_writes_nothing(page: str, data: dict[str, str], helper: User, bob: User, visit: Visit) -> None:
    needs_row = page.endswith(("change", "delete"))
    url = reverse(f"admin:{page}", args=[bob.pk] if needs_row else [])
    response = visit(helper).post(url, {name: value.format(pk=bob.pk) for name, value in data.items()})
    assert response.status_code == 403
    assert User.objects.filter(username__in=["bob@example.com", "helper@example.com"]).count() == User.objects.count() == 2
    assert User.objects.get(pk=bob.pk).password == bob.password


@pytest.mark.parametrize("action", ["set_role", "disable", "delete_selected"])
def test_the_helper_is_offered_no_action_and_can_send_none(action: str, helper: User, bob: User, visit: Visit) -> None:
    desk = visit(helper)
    assert f'value="{action}"' not in desk.get(changelist("accounts_user")).content.decode()
    desk.post(changelist("accounts_user"), {"action": action, "_selected_action": bob.pk, "post": "yes"})
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
def test_a_list_costs_the_same_queries_with_three_rows_as_with_thirty(office: Client, name: str) -> None:
    counts = []
    MAKERS[name](3)
    office.get(changelist(name))  # content types are remembered from the first page on
    for more in (0, 27):
        if more:
            MAKERS[name](more)
        with CaptureQueriesContext(connection) as queries:
            assert office.get(changelist(name)).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    "query",
    ["accounts_user:password__startswith=argon2", "accounts_user:password__regex=x", "accounts_token:digest__startswith=a"],
)
def test_no_list_can_be_filtered_by_a_hash(office: Client, query: str) -> None:
    name, _, lookup = query.partition(":")
    assert office.get(f"{changelist(name)}?{lookup}").status_code == 400


@pytest.mark.parametrize("name", ["index", "login"])
def test_every_answer_forbids_frames_inline_code_and_keeping(name: str, office: Client, client: Client) -> None:
    response = (office if name == "index" else client).get(reverse(f"admin:{name}"))
    assert response.status_code == 200
    assert response["X-Frame-Options"] == "DENY"
    policy = response["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "no-store" in response["Cache-Control"]


def test_a_write_without_the_csrf_token_is_refused(alice: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice)
    data = {"username": "eve@example.com"}
    assert strict.post(reverse("admin:accounts_user_add"), data).status_code == 403
    assert strict.post(reverse("admin:login"), {"username": "alice@example.com", "password": "x"}).status_code == 403
    assert strict.post(reverse("admin:logout")).status_code == 403
    assert not User.objects.filter(username="eve@example.com").exists()


def test_the_index_says_that_the_audit_log_is_the_truth(office: Client) -> None:
    page = office.get(reverse("admin:index")).content.decode()
    assert "audit log" in page
    assert reverse("admin:audit_entry_changelist") in page
    assert "SkyAuth" in page


def test_times_are_written_as_iso_8601(office: Client, alice: User) -> None:
    page = office.get(reverse("admin:accounts_user_change", args=[alice.pk])).content.decode()
    assert f"{alice.created_at:%Y-%m-%d %H:%M:%S}" in page
