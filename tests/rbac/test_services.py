"""The writers of roles and routes: who may, what is refused, and what is recorded."""

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from audit.models import Entry
from core.errors import Conflict, Forbidden, Invalid, NotFound, ServiceError, Stale
from rbac import packs, principals, services
from rbac.models import Role, Route
from rbac.packs import RouteSpec
from rbac.patterns import BadPattern
from rbac.permissions import EVERYTHING, UPSTREAM, Permission
from rbac.principals import Kind, Principal
from rbac.validation import validate
from tests.factories import GroupRoleFactory, ServiceAccountFactory, UserFactory

pytestmark = pytest.mark.django_db


def actor(*permissions, role="ops"):
    return Principal(Kind.USER, "ffffffff", "olga@example.com", role=role, permissions=frozenset(permissions), peer="192.0.2.7")


SMITH = actor(Permission.ROLES_WRITE, Permission.UPSTREAM_READ, Permission.UPSTREAM_PUBLIC)
ROUTER = actor(Permission.ROUTES_WRITE, *UPSTREAM)


def spec(path="/a", methods=("GET",), permission="upstream:read", **fields):
    return RouteSpec(path, tuple(methods), permission, **fields)


def last():
    """Return the newest audit entry as (event, target, data)."""
    entry = Entry.objects.first()
    return (entry.event, entry.target, entry.data)


def paths():
    return [(route.position, route.path) for route in Route.objects.all()]


# roles


def test_no_role_gets_the_name_of_a_value_of_rbac_default_role():
    with pytest.raises(Invalid, match="first-admin is a value of RBAC_DEFAULT_ROLE"):
        services.create_role(actor=principals.system("test"), name="first-admin")


def test_a_role_with_the_name_first_admin_of_an_older_version_can_be_deleted(settings):
    settings.RBAC_DEFAULT_ROLE = "first-admin"
    Role.objects.create(name="first-admin", permissions=[])
    services.delete_role(actor=principals.system("test"), name="first-admin")
    assert not Role.objects.filter(name="first-admin").exists()


def test_three_roles_come_with_skyauth():
    assert services.role_table() == {
        "admin": EVERYTHING,
        "user": {
            "password:own",
            "roles:read",
            "service-accounts:own",
            "upstream:public",
            "upstream:read",
            "upstream:write",
            "users:read",
        },
        "viewer": {"password:own", "roles:read", "upstream:public", "upstream:read", "users:read"},
    }
    assert all(Role.objects.values_list("builtin", flat=True))


def test_a_role_is_created_and_recorded():
    role = services.create_role(actor=SMITH, name="reader", permissions=["upstream:read", "upstream:read"], description="Reads.")
    assert (role.permissions, role.description, role.builtin, role.version) == (["upstream:read"], "Reads.", False, 1)
    assert last() == ("role.created", "reader", {"permissions": ["upstream:read"]})
    assert Entry.objects.first().actor == "olga@example.com"


@pytest.mark.parametrize("name", ["", "Reader", "1reader", "a" * 33, "a_b", "a b", "-a", "é", "a\n", "admin", "user"])
def test_a_bad_or_taken_role_name_is_refused(name):
    with pytest.raises(Invalid) as raised:
        services.create_role(actor=SMITH, name=name)
    assert "name" in raised.value.fields
    assert Role.objects.count() == 3
    assert not Entry.objects.exists()


@pytest.mark.parametrize("permissions", [["upstream:everything"], ["upstream:read", ""], ["*"]])
def test_a_role_of_an_unknown_permission_is_refused_with_those_that_exist(permissions):
    with pytest.raises(Invalid, match=r"Unknown permission.*upstream:read"):
        services.create_role(actor=SMITH, name="reader", permissions=permissions)


def test_a_role_changes_and_its_version_grows():
    services.create_role(actor=SMITH, name="reader")
    role = services.update_role(actor=SMITH, name="reader", permissions=["upstream:read"], version=1)
    assert role.version == 2
    assert last() == ("role.updated", "reader", {"old": [], "new": ["upstream:read"]})
    role = services.update_role(actor=SMITH, name="reader", description="New.")
    assert (role.permissions, role.description, role.version) == (["upstream:read"], "New.", 3)


def test_a_role_that_somebody_else_changed_is_not_overwritten():
    services.create_role(actor=SMITH, name="reader")
    services.update_role(actor=SMITH, name="reader", permissions=["upstream:read"])
    for refused in (
        lambda: services.update_role(actor=SMITH, name="reader", permissions=[], version=1),
        lambda: services.delete_role(actor=SMITH, name="reader", version=1),
    ):
        with pytest.raises(Stale):
            refused()
    assert Role.objects.get(name="reader").permissions == ["upstream:read"]


def test_the_admin_role_cannot_be_changed(system):
    with pytest.raises(Conflict, match="always has every permission"):
        services.update_role(actor=system, name="admin", permissions=[])


@pytest.mark.parametrize("name", ["admin", "user", "viewer"])
def test_a_built_in_role_cannot_be_deleted(system, name):
    with pytest.raises(Conflict, match="is built in"):
        services.delete_role(actor=system, name=name)


def test_a_role_that_nobody_holds_is_deleted(system):
    services.create_role(actor=system, name="spare", permissions=["audit:read"])
    services.delete_role(actor=system, name="spare", version=1)
    assert not Role.objects.filter(name="spare").exists()
    assert last() == ("role.deleted", "spare", {"permissions": ["audit:read"]})


@pytest.mark.parametrize("factory", [UserFactory, ServiceAccountFactory, GroupRoleFactory])
def test_a_role_in_use_cannot_be_deleted(system, factory):
    row = factory(role=services.create_role(actor=system, name="held"))
    with CaptureQueriesContext(connection) as queries, pytest.raises(Conflict, match="still in use"):
        services.delete_role(actor=system, name="held")
    assert Role.objects.filter(name="held").exists()
    asked = [query["sql"] for query in queries if f'FROM "{row._meta.db_table}"' in query["sql"]]
    assert asked
    assert all("LIMIT 1" in sql for sql in asked), "it reads all rows with the role, which can be 10,000"


@pytest.mark.parametrize("call", [services.update_role, services.delete_role])
def test_a_role_that_is_gone_is_not_found(system, call):
    with pytest.raises(NotFound, match="nosuch"):
        call(actor=system, name="nosuch")


MORE = ["audit:read"]  # which SMITH does not hold
ESCALATIONS = {
    "creating a stronger role": lambda: services.create_role(actor=SMITH, name="new", permissions=MORE),
    "strengthening a role": lambda: services.update_role(actor=SMITH, name="weak", permissions=MORE),
    "weakening a stronger role": lambda: services.update_role(actor=SMITH, name="strong", permissions=[]),
    "describing a stronger role": lambda: services.update_role(actor=SMITH, name="strong", description="x"),
    "deleting a stronger role": lambda: services.delete_role(actor=SMITH, name="strong"),
    "deleting the admin role": lambda: services.delete_role(actor=SMITH, name="admin"),
}


@pytest.mark.parametrize("attempt", ESCALATIONS.values(), ids=ESCALATIONS)
def test_promise_30_nobody_makes_a_role_stronger_than_themselves(system, attempt):
    services.create_role(actor=system, name="weak")
    services.create_role(actor=system, name="strong", permissions=MORE)
    before = services.role_table()
    written = Entry.objects.count()
    with pytest.raises(Forbidden):
        attempt()
    assert services.role_table() == before
    assert Entry.objects.count() == written


CALLS = {
    "create_role": lambda who: services.create_role(actor=who, name="new"),
    "update_role": lambda who: services.update_role(actor=who, name="user", description="x"),
    "delete_role": lambda who: services.delete_role(actor=who, name="user"),
    "create_route": lambda who: services.create_route(actor=who, spec=spec()),
    "update_route": lambda who: services.update_route(actor=who, pk=1, changes={}),
    "delete_route": lambda who: services.delete_route(actor=who, pk=1),
    "reorder_routes": lambda who: services.reorder_routes(actor=who, order=[]),
    "replace_routes": lambda who: services.replace_routes(actor=who, specs=[], source="x"),
}
STRANGERS = {
    "anonymous": principals.ANONYMOUS,
    "shared": principals.shared("team", ""),
    "user": actor("upstream:read", "upstream:write", "users:read", "roles:read", "service-accounts:own"),
    "all but the one": actor(*(EVERYTHING - {"roles:write", "routes:write"})),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)
def test_promise_35_who_lacks_the_permission_writes_nothing(call, stranger):
    with pytest.raises(Forbidden, match="requires the permission"):
        call(stranger)
    assert not Entry.objects.exists()
    assert Role.objects.count() == 3


@pytest.mark.parametrize("missing", sorted(UPSTREAM))
def test_promise_30_who_changes_routes_holds_all_that_routes_guard(missing):
    weak = actor(Permission.ROUTES_WRITE, *(UPSTREAM - {missing}))
    with pytest.raises(Forbidden, match=missing):
        services.create_route(actor=weak, spec=spec())
    assert not Route.objects.exists()


# routes


def test_a_route_goes_to_the_end_or_before_another():
    for path, position in (("/a", None), ("/b", None), ("/c", 1), ("/d", 3), ("/e", 99), ("/f", 0), ("/g", -5)):
        services.create_route(actor=ROUTER, spec=spec(path), position=position)
    assert paths() == [(1, "/g"), (2, "/f"), (3, "/c"), (4, "/a"), (5, "/d"), (6, "/b"), (7, "/e")]


def test_a_new_route_is_recorded_with_all_it_says():
    services.create_route(actor=ROUTER, spec=spec("/a", ["GET"], host="h", note="why"))
    values = {"position": 1, "host": "h", "path": "/a", "methods": ["GET"], "permission": "upstream:read"}
    assert last() == ("route.created", "#1 GET h/a -> upstream:read", values)


BAD_ROUTES = [
    (spec("a"), "path"),
    (spec("/a*"), "path"),
    (spec(""), "path"),
    (spec("/a%2f"), "path"),
    (spec(methods=[]), "methods"),
    (spec(methods=["get"]), "methods"),
    (spec(methods=["*", "GET"]), "methods"),
    (spec(methods=[7]), "methods"),
    (spec(permission="upstream:everything"), "permission"),
    (spec(permission=""), "permission"),
    (spec(host="EXAMPLE.com"), "host"),
    (spec(host="a:80"), "host"),
    (spec(note="x" * 201), "note"),
]


@pytest.mark.parametrize(("bad", "field"), BAD_ROUTES)
def test_a_bad_route_is_refused_with_its_field(bad, field):
    with pytest.raises(Invalid) as raised:
        services.create_route(actor=ROUTER, spec=bad)
    assert field in raised.value.fields
    assert not Route.objects.exists()


def test_a_route_changes_its_version_grows_and_old_and_new_are_recorded():
    row = services.create_route(actor=ROUTER, spec=spec())
    changed = services.update_route(actor=ROUTER, pk=row.pk, changes={"methods": ("POST",), "note": "n"}, version=1)
    assert (changed.methods, changed.note, changed.path, changed.version) == (["POST"], "n", "/a", 2)
    event, _, data = last()
    assert event == "route.updated"
    assert (data["old"]["methods"], data["new"]["methods"]) == (["GET"], ["POST"])
    with pytest.raises(Stale):
        services.update_route(actor=ROUTER, pk=row.pk, changes={"path": "/b"}, version=1)
    with pytest.raises(Stale):
        services.delete_route(actor=ROUTER, pk=row.pk, version=1)
    with pytest.raises(Invalid):
        services.update_route(actor=ROUTER, pk=row.pk, changes={"path": "b"})


def test_deleting_a_route_closes_the_gap():
    rows = [services.create_route(actor=ROUTER, spec=spec(path)) for path in ("/a", "/b", "/c")]
    services.delete_route(actor=ROUTER, pk=rows[1].pk, version=1)
    assert paths() == [(1, "/a"), (2, "/c")]
    assert last()[:2] == ("route.deleted", "#2 GET /b -> upstream:read")


@pytest.mark.parametrize(
    "call", [lambda: services.update_route(actor=ROUTER, pk=7, changes={}), lambda: services.delete_route(actor=ROUTER, pk=7)]
)
def test_a_route_that_is_not_there_is_not_found(call):
    with pytest.raises(NotFound):
        call()


def test_a_route_is_changed_and_put_elsewhere_in_one():
    a, b, c = (services.create_route(actor=ROUTER, spec=spec(path)) for path in ("/a", "/b", "/c"))
    for position, expected in ((2, "bac"), (99, "bca"), (-1, "abc"), (None, "abc")):
        services.update_route(actor=ROUTER, pk=a.pk, changes={}, position=position)
        assert paths() == [(n, f"/{name}") for n, name in enumerate(expected, 1)]
    services.update_route(actor=ROUTER, pk=c.pk, changes={"note": "n"}, position=1)
    event, _, data = last()
    assert (event, data["old"]["position"], data["new"]["position"]) == ("route.updated", 3, 1)
    with pytest.raises(Invalid):
        services.update_route(actor=ROUTER, pk=b.pk, changes={"path": "b"}, position=1)
    assert paths() == [(1, "/c"), (2, "/a"), (3, "/b")]


def test_no_change_of_a_table_that_somebody_else_changed_is_made_unseen():
    row = services.create_route(actor=ROUTER, spec=spec("/a"))
    seen = services.table_tag([row])
    services.create_route(actor=ROUTER, spec=spec("/b"), if_match=seen)
    for change in (
        lambda: services.create_route(actor=ROUTER, spec=spec("/c"), if_match=seen),
        lambda: services.update_route(actor=ROUTER, pk=row.pk, changes={"path": "/c"}, if_match=seen),
        lambda: services.delete_route(actor=ROUTER, pk=row.pk, if_match=seen),
        lambda: services.replace_routes(actor=ROUTER, specs=[], source="tests", if_match=seen),
    ):
        with pytest.raises(Stale):
            change()
    assert paths() == [(1, "/a"), (2, "/b")]
    services.replace_routes(actor=ROUTER, specs=[], source="tests", if_match=services.table_tag(Route.objects.all()))
    assert paths() == []


def test_a_route_that_cannot_be_read_can_be_deleted():
    row = services.create_route(actor=ROUTER, spec=spec("/a"))
    Route.objects.filter(pk=row.pk).update(path="/a//b")
    services.delete_route(actor=ROUTER, pk=row.pk)
    assert last()[:2] == ("route.deleted", "#1 GET /a//b -> upstream:read")


def test_routes_are_reordered_as_a_whole():
    a, b, c = (services.create_route(actor=ROUTER, spec=spec(path)).pk for path in ("/a", "/b", "/c"))
    seen = services.table_tag(Route.objects.all())
    assert [row.pk for row in services.reorder_routes(actor=ROUTER, order=[c, a, b], if_match=seen)] == [c, a, b]
    assert paths() == [(1, "/c"), (2, "/a"), (3, "/b")]
    assert last() == ("routes.reordered", "routes", {"order": [c, a, b]})
    assert services.table_tag(Route.objects.all()) != seen
    with pytest.raises(Stale):
        services.reorder_routes(actor=ROUTER, order=[a, b, c], if_match=seen)
    for order in ([a, b], [a, b, c, c], [a, b, c + 1], []):
        with pytest.raises(Invalid) as raised:
            services.reorder_routes(actor=ROUTER, order=order)
        assert "order" in raised.value.fields
    assert paths() == [(1, "/c"), (2, "/a"), (3, "/b")]


def test_the_tag_of_the_table_changes_with_every_change():
    row = services.create_route(actor=ROUTER, spec=spec())
    first = services.table_tag(Route.objects.all())
    assert services.table_tag(Route.objects.all()) == first
    services.update_route(actor=ROUTER, pk=row.pk, changes={"note": "x"})
    second = services.table_tag(Route.objects.all())
    services.create_route(actor=ROUTER, spec=spec("/b"))
    assert len({first, second, services.table_tag(Route.objects.all())}) == 3


def test_a_pack_replaces_the_whole_table_or_nothing_of_it(system):
    services.create_route(actor=system, spec=spec("/old"))
    rows = services.replace_routes(actor=system, specs=packs.load("skypilot").routes, source="pack skypilot")
    assert [row.path for row in rows] == [route.path for route in packs.load("skypilot").routes]
    assert [row.position for row in rows] == list(range(1, len(rows) + 1))
    assert Entry.objects.first().reason == "from pack skypilot"
    assert Entry.objects.first().data["old"][0]["path"] == "/old"
    with pytest.raises(Invalid):
        services.replace_routes(actor=system, specs=[spec("/a"), spec("b")], source="x")
    assert Route.objects.count() == len(rows)


def test_loading_a_pack_again_changes_and_records_nothing(system):
    rows = services.load_pack(actor=system, name="read-write")
    assert Entry.objects.first().reason == "from pack read-write"
    entries = Entry.objects.count()
    assert services.load_pack(actor=system, name="read-write", if_match=services.table_tag(rows)) == rows
    assert Entry.objects.count() == entries


def test_a_pack_is_not_loaded_over_another_table_than_the_one_that_was_read(system):
    tag = services.table_tag(Route.objects.all())
    services.create_route(actor=system, spec=spec("/a"))
    with pytest.raises(Stale):
        services.load_pack(actor=system, name="read-write", if_match=tag)
    assert paths() == [(1, "/a")]


def test_the_compiled_table_is_in_order(system):
    for path in ("/a", "/b"):
        services.create_route(actor=system, spec=spec(path), position=1)
    assert [rule.text for rule in services.route_table().rules] == ["#1 GET /b -> upstream:read", "#2 GET /a -> upstream:read"]
    assert str(Route.objects.first()) == "#1 GET /b -> upstream:read"


def test_promise_35_a_row_written_round_the_services_denies_by_failing(system):
    Route.objects.create(position=1, path="/a*b", methods=["GET"], permission="upstream:read")
    with pytest.raises(BadPattern):
        services.route_table()


# rows that cannot be


@pytest.mark.parametrize(
    "attempt",
    [
        lambda: Role.objects.create(name=""),
        lambda: Role.objects.create(name="admin"),
        lambda: Role.objects.filter(name="admin").update(builtin=False),
        lambda: Role.objects.filter(name="user").update(name="admin"),
        lambda: Route.objects.create(position=1, path="a", methods=["*"], permission="upstream:read"),
    ],
)
def test_the_database_refuses_impossible_rows(attempt):
    with pytest.raises(IntegrityError), transaction.atomic():
        attempt()


@pytest.mark.parametrize("names", ["upstream:read", {"upstream:read": 1}, [7], [["upstream:read"]], ["nosuch"]])
def test_permissions_of_a_row_are_a_list_of_known_names(names):
    with pytest.raises(Invalid) as raised:
        validate(Role(name="new", permissions=names))
    assert "permissions" in raised.value.fields


@pytest.mark.parametrize("methods", [None, "GET", {"GET": 1}, [], ["*", "GET"], [7]])
def test_methods_of_a_row_are_a_list_of_upper_case_names(methods):
    with pytest.raises(Invalid) as raised:
        validate(Route(position=1, path="/a", methods=methods, permission="upstream:read"))
    assert "methods" in raised.value.fields


@pytest.mark.parametrize("error", [ServiceError, Forbidden, Invalid, NotFound, Conflict, Stale])
def test_every_refusal_has_a_code_a_sentence_and_its_fields(error):
    refusal = error("A sentence.", fields={"name": ("bad",)})
    assert str(refusal) == refusal.message == "A sentence."
    assert refusal.fields == {"name": ["bad"]}
    assert refusal.code
    assert error("x").fields == {}


def test_a_role_shows_its_name(system):
    assert str(Role.objects.get(name="user")) == "user"
