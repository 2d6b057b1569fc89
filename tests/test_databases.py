"""No case that uses a database escapes the PostgreSQL pass, and no other case runs in it."""

import pytest

from tests import databases

pytest_plugins = ["pytester"]

# Stands in for pytest-django: `db` is its way to the database, and `people` one that passes through it.
CONFTEST = """
import pytest
from tests.databases import pytest_collection_modifyitems, pytest_fixture_setup, pytest_runtest_protocol

@pytest.fixture
def _django_db_helper(): pass

@pytest.fixture
def db(_django_db_helper): pass

@pytest.fixture
def people(db): pass
"""
CASES = """
import pytest
from tests import databases

def test_plain(): pass
def test_fixture(db): pass
def test_fixture_of_a_fixture(people): pass
@pytest.mark.usefixtures("people")
def test_used(): pass
@pytest.mark.django_db
def test_marked(): pass
@pytest.mark.e2e
def test_server(): databases.require_database()
@pytest.mark.browser
def test_page(): databases.require_database()
@pytest.mark.e2e
@pytest.mark.sqlite
def test_server_once(): databases.require_database()
@pytest.mark.sqlite
def test_about_sqlite(db): pass
@pytest.mark.postgres
def test_about_postgresql(db): pass
@pytest.mark.postgres
def test_cluster_of_its_own(): pass
"""
SERVING = """
import pytest
from tests import databases

@pytest.fixture
def server(): databases.require_database()

def test_it(server): pass
"""
BOTH = {"test_fixture", "test_fixture_of_a_fixture", "test_used", "test_marked", "test_server", "test_page"}
ONLY_SQLITE = {"test_plain", "test_server_once", "test_about_sqlite"}
ONLY_POSTGRESQL = {"test_about_postgresql", "test_cluster_of_its_own"}


def run(pytester: pytest.Pytester, cases: str) -> pytest.RunResult:
    """Run cases with this project's rules, and without its plugins."""
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(cases)
    plugins = [word for name in ("django", "xdist", "cov", "schemathesis") for word in ("-p", f"no:{name}")]
    return pytester.runpytest_inprocess("-v", "-W", "ignore", *plugins)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("", BOTH | ONLY_SQLITE),
        ("sqlite:////tmp/x.sqlite3", BOTH | ONLY_SQLITE),
        ("postgres://db/x", BOTH | ONLY_POSTGRESQL),
        ("postgresql://db/x", BOTH | ONLY_POSTGRESQL),
    ],
)
def test_each_pass_runs_what_belongs_to_it(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, url: str, expected: set[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    result = run(pytester, CASES)
    assert {line.split("::")[1].split()[0] for line in result.outlines if " PASSED" in line} == expected
    result.assert_outcomes(passed=len(expected), deselected=len(BOTH | ONLY_SQLITE | ONLY_POSTGRESQL) - len(expected))


@pytest.mark.parametrize(
    "case",
    [
        "def test_it(request): request.getfixturevalue('db')",
        "def test_it(request): request.getfixturevalue('people')",
        "from tests import databases\ndef test_it(): databases.require_database()",
        SERVING,
    ],
)
def test_a_case_that_hides_its_database_fails(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    result = run(pytester, case)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*test_it uses a database, and would run on SQLite alone.*"])


def test_these_rules_are_those_of_the_suite(request: pytest.FixtureRequest) -> None:
    hooks = request.config.hook
    for name in ("pytest_collection_modifyitems", "pytest_fixture_setup", "pytest_runtest_protocol"):
        assert getattr(databases, name) in [found.function for found in getattr(hooks, name).get_hookimpls()]


def test_the_fixture_that_is_watched_is_pytest_djangos(request: pytest.FixtureRequest, db: None) -> None:
    assert databases.FIXTURE in request.fixturenames
    assert databases.uses_database(request.node)
