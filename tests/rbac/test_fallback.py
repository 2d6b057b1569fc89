"""The role of a user who loses one: never more than before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbac.fallback import lesser_role
from rbac.permissions import ADMIN, EVERYTHING

TABLE = {
    "admin": EVERYTHING,
    "all": EVERYTHING,
    "user": frozenset({"upstream:public", "upstream:read", "upstream:write", "users:read"}),
    "writer": frozenset({"upstream:public", "upstream:read", "upstream:write"}),
    "viewer": frozenset({"upstream:public", "upstream:read"}),
    "auditor": frozenset({"upstream:public", "audit:read", "upstream:read"}),
    "clerk": frozenset({"upstream:public", "audit:read"}),
}


@pytest.mark.parametrize(
    ("default", "held", "expected"),
    [
        ("admin", "viewer", "viewer"),
        ("viewer", "admin", "viewer"),
        ("user", "user", "user"),
        ("admin", "admin", "admin"),
        ("admin", "all", "all"),
        ("all", "admin", "all"),
        ("user", "writer", "writer"),
        ("user", "auditor", "viewer"),  # neither contains the other: the greatest role that both contain
        ("writer", "clerk", "viewer"),  # no role is in both: the least that a first-time user could have
        ("user", "a deleted role", "viewer"),
        ("admin", "a deleted role", "clerk"),  # of two that are as small, the first by name
    ],
)
def test_the_lesser_of_two_roles(default, held, expected):
    assert lesser_role(default, held, TABLE) == expected


ROLES = st.dictionaries(
    st.sampled_from("abcdef"), st.frozensets(st.sampled_from(sorted(EVERYTHING)), max_size=6), min_size=2, max_size=6
)


@given(ROLES, st.data())
def test_promise_47_the_lesser_role_never_exceeds_the_default_and_what_was_held_unless_no_role_is_in_both(roles, data):
    table = {**roles, ADMIN: EVERYTHING}
    default, held = (data.draw(st.sampled_from(sorted(table))) for _ in range(2))
    chosen = table[lesser_role(default, held, table)]
    assert chosen <= table[default]
    assert chosen <= table[held] or not any(one <= table[default] & table[held] for one in table.values())
