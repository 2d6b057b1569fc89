"""Which users of an existing SkyPilot API server are another user, or none, once SkyAuth names the callers.

The server compares names letter by letter and derives the owner of clusters and jobs from the name. SkyAuth writes names in lower
case and refuses some, so a user of the server can lose their clusters in the move.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from accounts.identifiers import BadName, canonical_username, user_uid
from integrations.skypilot.client import UpstreamUnavailable, ask

MAX_BYTES: Final = 50_000_000  # of the server's list of users: more than 100 bytes for each


@dataclass(frozen=True, slots=True)
class NameProblem:
    """A user of the server whose name changes: `becomes` is the name in SkyAuth, "" if there is none."""

    name: str
    becomes: str
    reason: str


def server_names() -> list[str]:
    """Return the names of the server's users, without its own built-in ones. Raises UpstreamUnavailable."""
    reply = ask("GET", "/users", max_bytes=MAX_BYTES)
    rows = reply.json() if reply.status == 200 else None
    if not isinstance(rows, list):
        raise UpstreamUnavailable(f"The SkyPilot API server returned {reply.status} and no list of users.")
    users = [row for row in rows if isinstance(row, dict) and row.get("user_type") != "system"]
    return [str(user["name"]) for user in users if user.get("name")]


def problems(names: Iterable[str]) -> list[NameProblem]:
    """Return the names that SkyAuth does not keep as they are, sorted."""
    known = set(names)
    found = []
    for name in sorted(known):
        try:
            becomes = canonical_username(name)
        except BadName as error:
            found.append(NameProblem(name, "", f"SkyAuth does not accept this name. {error}"))
            continue
        if becomes == name:
            continue
        spellings = sorted(other for other in known - {name} if other.lower() == becomes)
        same = f" So do: {', '.join(spellings)}." if spellings else ""
        reason = (
            f"Signs in as {becomes}, who is another user on the server ({user_uid(becomes)} instead of {user_uid(name)}).{same}"
        )
        found.append(NameProblem(name, becomes, reason))
    return found
