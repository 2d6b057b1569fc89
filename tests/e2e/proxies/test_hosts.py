"""Several APIs behind one SkyAuth, told apart by host: what is judged by the rules of one never reaches the other."""

import pytest

from tests.e2e.proxies.conftest import Gateway
from tests.http_client import bearer
from tests.proxies import BILLING

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("proxies"), pytest.mark.sqlite]


def reached(gateway: Gateway, before: tuple[int, int]) -> list[str]:
    """Return which APIs were reached since."""
    api, billing = gateway.upstream.arrived[before[0] :], gateway.ground.billing.arrived[before[1] :]
    return ["api"] * len(api) + ["billing"] * len(billing)


def so_far(gateway: Gateway) -> tuple[int, int]:
    return len(gateway.upstream.arrived), len(gateway.ground.billing.arrived)


@pytest.mark.parametrize(
    ("host", "method", "target", "status", "who"),
    [
        ("api.example.com", "GET", "/invoices/1", 200, "api"),
        ("api.example.com", "POST", "/hooks/1", 403, None),
        (BILLING, "GET", "/invoices/1", 403, None),
        (BILLING, "POST", "/hooks/1", 200, "billing"),
        (BILLING, "GET", "/", 200, "billing"),
        (BILLING, "DELETE", "/", 403, None),
    ],
)
def test_each_api_has_its_own_rules_and_its_own_requests(
    gateway: Gateway, reader: str, host: str, method: str, target: str, status: int, who: str | None
) -> None:
    before = so_far(gateway)
    assert gateway.ask(bearer(reader), ("Host", host), method=method, target=target).status == status
    assert reached(gateway, before) == ([who] if who else [])
    if who == "billing":
        [arrived] = gateway.ground.billing.arrived[before[1] :]
        assert arrived.all("Host") == [host]
        assert gateway.identity(arrived)["role"] == "viewer"
        assert not arrived.all("Authorization")


@pytest.mark.parametrize(
    "host",
    [
        BILLING.upper(), f"{BILLING}:80", f"{BILLING}:8443", f"{BILLING}.", f"{BILLING}.:80", f"{BILLING}..", f" {BILLING} ",
        f"{BILLING}:", f"{BILLING},api.example.com", f"{BILLING} api.example.com", f"api.example.com@{BILLING}", f".{BILLING}",
    ],
)  # fmt: skip
def test_no_spelling_of_a_host_gets_the_rules_of_one_api_and_the_other_api(gateway: Gateway, reader: str, host: str) -> None:
    """A viewer may post hooks to billing, and nothing to the other."""
    before = so_far(gateway)
    reply = gateway.ask(bearer(reader), ("Host", host), method="POST", target="/hooks/1")
    assert reached(gateway, before) == (["billing"] if reply.status == 200 else [])
    assert reply.status in {200, 400, 403}


@pytest.mark.parametrize(("one", "other"), [(BILLING, "api.example.com"), ("api.example.com", BILLING)])
def test_a_host_in_the_request_line_and_another_in_the_header_are_one_or_refused(
    gateway: Gateway, reader: str, one: str, other: str
) -> None:
    before = so_far(gateway)
    reply = gateway.ask(bearer(reader), ("Host", other), method="POST", target=f"http://{one}/hooks/1")
    assert reply.status in {200, 400, 403}
    assert reached(gateway, before) == (["billing"] if reply.status == 200 else [])


def test_a_forged_forwarding_header_does_not_choose_the_rules(gateway: Gateway, reader: str) -> None:
    names = ("X-Forwarded-Host", "X-Original-Host", "Forwarded", "X-Host", "X-Forwarded-Server")
    forged = [(name, f"host={BILLING}" if name == "Forwarded" else BILLING) for name in names]
    assert gateway.refused(bearer(reader), *forged, method="POST", target="/hooks/1").status == 403
