"""Every security promise has a test that carries its number, anywhere under `tests/`."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
NAME = re.compile(r"^(?:async )?def test_promise_(\d\d)_\w+\(", re.MULTILINE)

# The promises whose code this repository does not have yet, each with the reason.
LATER: dict[int, str] = {}
ALL = set(range(1, 56))
KEPT = sorted(ALL - LATER.keys())


def named() -> dict[int, list[str]]:
    """Return the files that have a test of each promise."""
    found: dict[int, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for number in NAME.findall(path.read_text(encoding="utf-8")):
            found.setdefault(int(number), []).append(str(path.relative_to(TESTS)))
    return found


NAMED = named()


@pytest.mark.parametrize("number", KEPT)
def test_a_kept_promise_has_a_test_that_carries_its_number(number):
    assert NAMED.get(number), f"no test is named test_promise_{number:02}_..."


def test_a_promise_that_got_its_test_is_no_longer_excused():
    assert sorted(NAMED.keys() & LATER.keys()) == [], "take it off the list of later ones"


def test_no_test_carries_a_number_that_is_no_promise():
    assert set(NAMED) <= ALL


def test_the_threat_model_lists_exactly_the_kept_promises():
    page = (TESTS.parent / "docs" / "threat-model.md").read_text(encoding="utf-8")
    listed: list[int] = []
    for cell in re.findall(r"^\| ([0-9, -]+) \|", page, re.MULTILINE):
        for part in cell.split(","):
            first, _, last = part.strip().partition("-")
            listed.extend(range(int(first), int(last or first) + 1))
    assert sorted(listed) == KEPT
