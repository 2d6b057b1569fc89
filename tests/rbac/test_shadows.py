"""Routes that never decide, and where a new route is inserted so that it can."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rbac import packs
from rbac.models import Route
from rbac.packs import RouteSpec
from rbac.routes import Table, compile_rule
from rbac.services import create_route
from rbac.shadows import last_useful_position, shadowed, shadowing
from rbac.targets import parse_target


def spec(text: str) -> RouteSpec:
    """Return a route that is written like `GET,HEAD api.example.com/jobs/**`."""
    methods, _, where = text.partition(" ")
    host, slash, path = where.partition("/")
    return RouteSpec(slash + path, tuple(methods.split(",")), "upstream:read", host)


@pytest.mark.parametrize(
    ("before", "route", "decides"),
    [
        ([], "GET /jobs", True),
        (["* /**"], "GET /jobs", False),
        (["* /**"], "* /**", False),
        (["GET /**"], "GET /jobs", False),
        (["GET /**"], "GET,POST /jobs", True),
        (["GET /**", "POST /jobs/**"], "GET,POST /jobs", False),
        (["GET /**", "POST /jobs/*"], "GET,POST /jobs", True),
        (["GET,HEAD,POST,PUT,PATCH,DELETE /**"], "* /jobs", True),
        (["* /jobs/**"], "GET /jobs", False),
        (["* /jobs/**"], "GET /jobs/**", False),
        (["* /jobs/**"], "GET /**", True),
        (["* /jobs/*"], "GET /jobs/7", False),
        (["* /jobs/*"], "GET /jobs/*", False),
        (["* /jobs/*"], "GET /jobs/", True),
        (["* /jobs/*"], "GET /jobs/**", True),
        (["* /jobs/*/**"], "GET /jobs/**", True),
        (["* /jobs/7"], "GET /jobs/*", True),
        (["* /jobs/"], "GET /jobs", True),
        (["* /*/logs"], "GET /jobs/logs", False),
        (["* /*/logs"], "GET /jobs/*", True),
        (["* /Jobs"], "GET /jobs", True),
        (["* a.example.com/**"], "GET /jobs", True),
        (["* a.example.com/**"], "GET a.example.com/jobs", False),
        (["* a.example.com/**"], "GET b.example.com/jobs", True),
        (["* /**"], "GET a.example.com/jobs", False),
        (["GET /jobs", "* /**"], "GET /jobs", False),
    ],
)
def test_a_route_decides_unless_earlier_ones_match_all_of_it(before: list[str], route: str, decides: bool) -> None:
    specs = [*map(spec, before), spec(route)]
    assert (shadowing(specs, len(before)) == "") == decides


@pytest.mark.parametrize(
    ("table", "route", "position"),
    [
        ([], "GET /jobs", 1),
        (["GET /a", "* /**"], "GET /jobs", 2),
        (["GET /a", "GET /**", "* /**"], "GET /jobs", 2),
        (["GET /a", "GET /**", "* /**"], "POST /jobs", 3),
        (["GET /a", "GET /**", "* /**"], "GET,POST /jobs", 3),
        (["GET /a", "GET /jobs/**"], "* /**", 3),
        (["* a.example.com/**"], "GET /jobs", 2),
    ],
)
def test_the_last_useful_position_is_before_what_would_shadow_the_route(table: list[str], route: str, position: int) -> None:
    assert last_useful_position([*map(spec, table)], spec(route)) == position


SEGMENTS = ["a", "b", "*"]
PATHS = st.builds(
    lambda segments, ending: "/" + "/".join([*segments, *ending]),
    st.lists(st.sampled_from(SEGMENTS), max_size=2),
    st.sampled_from([[], ["**"], [""]]),
).map(lambda path: path.replace("//", "/"))
ROUTES = st.builds(
    lambda methods, host, path: RouteSpec(path, tuple(sorted(methods)), "upstream:read", host),
    st.one_of(st.just({"*"}), st.sets(st.sampled_from(["GET", "POST"]), min_size=1)),
    st.sampled_from(["", "a.example.com"]),
    PATHS,
)
TARGETS = [
    parse_target(method, host, path)
    for method, host, path in product(
        ["GET", "POST", "PUT"],
        ["a.example.com", "b.example.com"],
        [
            "/",
            *(
                "/" + "/".join(way)
                for size in (1, 2, 3)
                for way in product(["a", "b", "c", ""], repeat=size)
                if "" not in way[:-1]
            ),
        ],
    )
]


@settings(max_examples=300, deadline=None)
@given(st.lists(ROUTES, min_size=1, max_size=5))
def test_a_route_is_said_to_never_decide_exactly_if_it_does_not(specs: list[RouteSpec]) -> None:
    """Both ways: no request of a universe that distinguishes these routes, or at least one."""
    rules = [
        compile_rule(position=n, host=one.host, path=one.path, methods=one.methods, permission=one.permission)
        for n, one in enumerate(specs, 1)
    ]
    table = Table(rules)
    deciding = {rule.position for target in TARGETS if (rule := table.first_match(target)) is not None}
    for index in range(len(specs)):
        if shadowing(specs, index):
            assert index + 1 not in deciding, specs
        elif index + 1 not in deciding:  # only several patterns together cover it, which is not claimed
            others = [rule for rule in rules[:index] if not set(rule.methods).isdisjoint({*rules[index].methods, "*"})]
            assert len(others) > 1, specs


@pytest.mark.parametrize("name", packs.names())
def test_every_route_of_a_policy_pack_can_decide(name: str) -> None:
    specs = packs.load(name).routes
    assert [str(specs[index]) for index in range(len(specs)) if shadowing(specs, index)] == []


@pytest.mark.django_db
def test_a_route_without_a_position_is_inserted_where_it_can_decide(system, read_write) -> None:
    row = create_route(actor=system, spec=spec("POST /jobs/*"))
    assert (row.position, list(Route.objects.values_list("path", flat=True))[row.position - 1]) == (2, "/jobs/*")
    assert shadowed(Route.objects.all()) == {}
    dead = create_route(actor=system, spec=spec("GET /late"), position=9)
    assert shadowed(Route.objects.all()) == {dead.pk: "#1 GET,HEAD,OPTIONS /** -> upstream:read"}


@pytest.mark.django_db
def test_a_table_that_cannot_be_read_has_no_shadowed_routes(system, read_write) -> None:
    Route.objects.filter(position=2).update(path="/a//b")
    assert shadowed(Route.objects.all()) == {}
    assert create_route(actor=system, spec=spec("GET /late")).position == 3
