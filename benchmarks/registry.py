"""Everybody who is measured, in the order of the report."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from benchmarks.harness import Harness, Subject
from benchmarks.subjects import limits, peers, skyauth, skypilot
from benchmarks.subjects.skyauth import Shape

SQLITE: Final = "SkyAuth on SQLite"
POSTGRESQL: Final = "SkyAuth on PostgreSQL"
PEERS: Final = "Other ways to ask who is calling"
LIMITS: Final = "What bounds everybody"


@dataclass(frozen=True, slots=True)
class Entry:
    """A subject before it is started. `needs` are the fields of `Tools` without which it cannot be; `shape` is its SkyAuth."""

    key: str
    title: str
    section: str
    start: Callable[[Harness], Subject]
    needs: tuple[str, ...] = ()
    shape: Shape | None = None
    last: bool = False  # measured after everybody else, and after every token was shown


def _skyauth(kind: Callable[[Harness, Shape], Subject], key: str, title: str, shape: Shape, *, last: bool = False) -> Entry:
    section = POSTGRESQL if shape.database == "postgresql" else SQLITE
    needs = ("postgres",) if shape.database == "postgresql" else ()
    return Entry(key, title, section, lambda harness: kind(harness, shape), needs, shape, last)


def _limit(kind: Callable[[Harness, Shape], Subject], key: str, title: str, shape: Shape, *needs: str) -> Entry:
    return Entry(key, title, LIMITS, lambda harness: kind(harness, shape), needs, shape)


def _changing(key: str, shape: Shape) -> Iterator[Entry]:
    for changes in (0, 1, 10, 100):
        title = f"{skyauth.CALLERS:,} tokens, {changes} changes a second"
        yield _skyauth(partial(skyauth.changing, changes=changes), f"{key}-{changes}", title, shape)


def entries(few: int, many: int) -> tuple[Entry, ...]:
    """Return everybody, for databases of so many tokens."""
    base, large = Shape("sqlite", few), Shape("sqlite", many)
    base_pg, large_pg = Shape("postgresql", few), Shape("postgresql", many)
    return (
        _skyauth(skyauth.bearer, "bearer", "bearer token", base),
        _skyauth(skyauth.basic, "basic", "Basic, remembered", base),
        _skyauth(skyauth.proxy, "proxy", "user named by a trusted proxy", base),
        _skyauth(skyauth.session, "session", "session cookie", base),
        _skyauth(skyauth.nobody, "nobody", "no credential: 401", base),
        _skyauth(skyauth.unknown, "unknown", "unknown token: 401", base),
        _skyauth(skyauth.bearer, "bearer-100-routes", "bearer token, 100 routes", Shape("sqlite", few, 100)),
        _skyauth(skyauth.bearer, "bearer-1000-routes", "bearer token, 1,000 routes", Shape("sqlite", few, 1_000)),
        _skyauth(skyauth.bearer, "bearer-many", f"bearer token, {many:,} tokens", large),
        _skyauth(skyauth.miss, "miss", f"first sight of a token, of {many:,}", large),
        _skyauth(skyauth.cycle, "cycle", f"all {many:,} tokens in turn, each seen before", large, last=True),
        *_changing("changes", base),
        _skyauth(skyauth.bearer, "pg-bearer", "bearer token", base_pg),
        _skyauth(skyauth.basic, "pg-basic", "Basic, remembered", base_pg),
        _skyauth(skyauth.proxy, "pg-proxy", "user named by a trusted proxy", base_pg),
        _skyauth(skyauth.session, "pg-session", "session cookie", base_pg),
        _skyauth(skyauth.bearer, "pg-bearer-many", f"bearer token, {many:,} tokens", large_pg),
        _skyauth(skyauth.miss, "pg-miss", f"first sight of a token, of {many:,}", large_pg),
        *_changing("pg-changes", base_pg),
        *(
            Entry(f"{prefix}{which.name}", f"{title}, {name}", PEERS, partial(peers.peer, which=which, database=database), needs)
            for database, name, prefix, needs in (
                ("sqlite", "SQLite", "", ("peers",)),
                ("postgresql", "PostgreSQL", "pg-", ("peers", "postgres")),
            )
            for which, title in (
                (peers.DRF, "DRF TokenAuthentication"),
                (peers.KNOX, "django-rest-knox"),
                (peers.API_KEY, "djangorestframework-api-key"),
            )
        ),
        Entry("skypilot", "SkyPilot 0.14.1's own server", PEERS, skypilot.bearer, ("skypilot",)),
        _limit(limits.asgi, "asgi", "bare ASGI app, uvicorn", base),
        _limit(limits.view, "view", "bare Django view, granian", base, "peers"),
        _limit(limits.nginx_alone, "nginx", "nginx auth_request to a static 200", base, "nginx"),
        _limit(limits.nginx_skyauth, "nginx-skyauth", "nginx auth_request to SkyAuth", base, "nginx"),
    )
