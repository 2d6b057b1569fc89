"""Which cases run in which pass. `make test` and `make test-e2e` run the suite on SQLite, and what a database can change also on
PostgreSQL, at the same time.

A case uses a database through pytest-django, which blocks it for every case without its fixtures and marker, or through a server
that it starts (`tests.servers.database`). The PostgreSQL pass runs these cases, except those marked `sqlite`. Cases marked
`postgres` run in that pass only.
"""

import os
from collections.abc import Iterator

import pytest

FIXTURE = "_django_db_helper"  # every way of pytest-django to the database passes through it
STARTS_SERVERS = ("e2e", "browser")
LONGEST_GROUPS = ("skypilot", "browser", "make run", "docs", "raw")  # of xdist_group: one process runs each, so they begin first

_running: list[pytest.Item] = []


def on_postgres() -> bool:
    """Return whether this is the PostgreSQL pass."""
    return os.environ.get("DATABASE_URL", "").startswith("postgres")


def uses_database(item: pytest.Item) -> bool:
    """Return whether the case can reach a database: in this process, or in a server that it starts."""
    return (
        FIXTURE in getattr(item, "fixturenames", ())
        or item.get_closest_marker("django_db") is not None
        or any(item.get_closest_marker(name) for name in STARTS_SERVERS)
    )


def in_this_pass(item: pytest.Item, *, postgres: bool) -> bool:
    """Return whether the case runs in the PostgreSQL pass, or else in the SQLite pass."""
    if item.get_closest_marker("postgres") is not None:
        return postgres
    return not postgres or (uses_database(item) and item.get_closest_marker("sqlite") is None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    postgres = on_postgres()
    kept = {item: in_this_pass(item, postgres=postgres) for item in items}
    config.hook.pytest_deselected(items=[item for item in items if not kept[item]])
    items[:] = sorted((item for item in items if kept[item]), key=_turn)


def _turn(item: pytest.Item) -> int:
    group = item.get_closest_marker("xdist_group")
    name = group.args[0] if group is not None else ""
    return LONGEST_GROUPS.index(name) if name in LONGEST_GROUPS else len(LONGEST_GROUPS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _running.append(item)
    try:
        return (yield)
    finally:
        _running.remove(item)


def pytest_fixture_setup(fixturedef: pytest.FixtureDef[object]) -> None:
    if fixturedef.argname == FIXTURE:
        require_database("`request.getfixturevalue` hides the database from the PostgreSQL pass. Add @pytest.mark.django_db.")


def require_database(reason: str = "Mark the test as e2e or browser: it starts a server.") -> None:
    """Fail a case that reaches a database and that the PostgreSQL pass would not run; do nothing outside of a test run."""
    if _running and not uses_database(item := _running[-1]):
        pytest.fail(f"{item.nodeid} uses a database, and would run on SQLite alone. {reason}", pytrace=False)
