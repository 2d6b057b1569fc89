"""The ready-made route tables, against what the servers really do."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import Invalid, NotFound
from core.paths import split_path
from rbac import packs
from rbac.packs import RouteSpec, read_route
from rbac.permissions import EVERYTHING, PUBLIC, effective_permissions
from rbac.policy import decide_request
from rbac.routes import Table, compile_rule
from rbac.targets import Target

MATRIX = yaml.safe_load((Path(__file__).parent / "data" / "skypilot_matrix.yaml").read_text(encoding="utf-8"))
ROLES = {
    "admin": EVERYTHING,
    "user": effective_permissions("user", ["upstream:read", "upstream:write"]),
    "viewer": effective_permissions("viewer", ["upstream:read"]),
    "nobody": PUBLIC,
}


def table(name):
    return Table(
        compile_rule(position=n, host=spec.host, path=spec.path, methods=spec.methods, permission=spec.permission)
        for n, spec in enumerate(packs.load(name).routes, 1)
    )


TABLES = {name: table(name) for name in packs.names()}


def allowed(pack, role, method, path):
    return decide_request(ROLES[role], Target(method, "sky.example.com", split_path(path), path), TABLES[pack]).allowed


def test_three_packs_ship():
    assert packs.names() == ["open", "read-write", "skypilot"]
    assert [packs.load(name).name for name in packs.names()] == packs.names()
    assert all(packs.load(name).description for name in packs.names())


@pytest.mark.parametrize("row", MATRIX, ids=[f"{row['method']} {row['path']}" for row in MATRIX])
def test_the_skypilot_pack_decides_as_the_server_does(row):
    seen = {role: allowed("skypilot", role, row["method"], row["path"]) for role in ("admin", "user", "viewer", "nobody")}
    assert seen == {"admin": row["admin"], "user": row["user"], "viewer": row["viewer"], "nobody": False}


def test_the_matrix_speaks_about_every_rule_of_the_skypilot_pack():
    asked = [Target(row["method"], "h", split_path(row["path"]), row["path"]) for row in MATRIX]
    matched = {next(rule.text for rule in TABLES["skypilot"].rules if rule.matches(one)) for one in asked}
    unasked = [rule.text for rule in TABLES["skypilot"].rules if rule.text not in matched]
    plain = [text for text in unasked if "/internal/dashboard/" not in text]
    assert plain == [], "rules that no row of the matrix tries"


def test_every_rule_of_the_skypilot_pack_has_a_twin_behind_the_dashboards_prefix():
    prefix = "/internal/dashboard"
    specs = packs.load("skypilot").routes[:-1]
    plain = {(s.path, s.methods, s.permission) for s in specs if not s.path.startswith(prefix + "/")}
    twins = {(s.path.removeprefix(prefix), s.methods, s.permission) for s in specs if s.path.startswith(prefix + "/")}
    assert plain == twins


@pytest.mark.parametrize(
    ("pack", "method", "admin", "user", "viewer"),
    [
        ("open", "GET", True, True, True),
        ("open", "DELETE", True, True, True),
        ("read-write", "GET", True, True, True),
        ("read-write", "HEAD", True, True, True),
        ("read-write", "OPTIONS", True, True, True),
        ("read-write", "POST", True, True, False),
        ("read-write", "PUT", True, True, False),
        ("read-write", "PATCH", True, True, False),
        ("read-write", "DELETE", True, True, False),
        ("read-write", "PROPFIND", True, True, False),
        ("read-write", "TRACE", True, True, False),
    ],
)
@pytest.mark.parametrize("path", ["/", "/a", "/a/", "/a/b/c"])
def test_promise_27_the_small_packs_let_nobody_in_without_sign_in(pack, method, admin, user, viewer, path):
    seen = tuple(allowed(pack, role, method, path) for role in ("admin", "user", "viewer", "nobody"))
    assert seen == (admin, user, viewer, False)


def test_an_unknown_pack_is_refused_with_those_that_exist():
    with pytest.raises(NotFound, match="open, read-write, skypilot"):
        packs.load("../packs/open")


GOOD = {"path": "/a", "methods": ["GET"], "permission": "upstream:read"}


def test_a_route_is_read_from_a_mapping():
    assert read_route(GOOD, "here") == RouteSpec("/a", ("GET",), "upstream:read")
    assert read_route({**GOOD, "host": "h", "note": "n"}, "here") == RouteSpec("/a", ("GET",), "upstream:read", "h", "n")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (None, "a route is a mapping"),
        ([], "a route is a mapping"),
        ("GET /a", "a route is a mapping"),
        ({**GOOD, "role": "x", 7: "y"}, "unknown key 7, role"),
        ({"path": "/a"}, "methods, permission is missing"),
        ({**GOOD, "methods": "GET"}, "methods is a list"),
        ({**GOOD, "methods": [7]}, "methods is a list"),
        ({**GOOD, "methods": None}, "methods is a list"),
        ({**GOOD, "path": 7}, "path must be text"),
        ({**GOOD, "permission": None, "host": ["h"]}, "host, permission must be text"),
        ({**GOOD, "note": False}, "note must be text"),
    ],
)
def test_a_bad_route_is_refused_with_its_place(row, says):
    with pytest.raises(Invalid) as raised:
        read_route(row, "file.yaml, route 3")
    assert raised.value.message.startswith("file.yaml, route 3: ")
    assert says in raised.value.message


@settings(deadline=None)
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.one_of(st.sampled_from([*GOOD, "host", "note"]), st.integers(), st.none()), inner, max_size=5),
        ),
        max_leaves=8,
    )
)
def test_reading_a_route_raises_nothing_but_invalid(row):
    try:
        assert isinstance(read_route(row, "here"), RouteSpec)
    except Invalid as error:
        assert error.message.startswith("here: ")  # noqa: PT017 - either is right


def test_a_pack_is_read_from_its_file_once(monkeypatch):
    first = packs.load("skypilot")
    monkeypatch.setattr(packs, "FOLDER", packs.FOLDER.parent / "nowhere")
    monkeypatch.setattr(packs, "names", lambda: ["skypilot"])
    assert packs.load("skypilot") is first
