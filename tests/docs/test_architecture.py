"""docs/architecture.md lists every module."""

import ast
from pathlib import Path

import pytest

from scripts import list_modules
from tests.test_house_rules import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
LARGEST_MODULE = 350  # lines


def test_the_list_of_modules_is_what_the_code_says() -> None:
    text = list_modules.PAGE.read_text(encoding="utf-8")
    assert text == list_modules.page(text), "Run: python scripts/list_modules.py --write"


def test_every_package_is_listed() -> None:
    assert sorted(list_modules.PACKAGES) == sorted(PACKAGES)


def lines(package: str) -> dict[Path, int]:
    return {path: len(path.read_text(encoding="utf-8").splitlines()) for path in list_modules.modules(package)}


def test_no_package_has_a_quarter_of_the_code() -> None:
    sizes = {package: sum(lines(package).values()) for package in PACKAGES}
    assert max(sizes.values()) * 4 < sum(sizes.values())


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_is_too_long_to_read(package: str) -> None:
    too_long = {str(path.relative_to(ROOT)): number for path, number in lines(package).items() if number > LARGEST_MODULE}
    assert too_long == {}


def test_no_class_name_stands_for_two_things() -> None:
    places: dict[str, list[str]] = {}
    for package in PACKAGES:
        for path in list_modules.modules(package):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    # Django finds these by their names.
    twice = {name: found for name, found in places.items() if len(found) > 1 and name not in {"Command", "DatabaseWrapper"}}
    assert twice == {}
