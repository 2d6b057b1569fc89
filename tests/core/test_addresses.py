"""The addresses of the hosts in the parameters of a connection."""

import psycopg
import pytest

from core.postgresql.addresses import with_addresses

UNCHANGED = [
    {"dbname": "sky"},
    {"host": "db.example.com", "hostaddr": "10.0.0.5"},
    {"service": "sky"},
]


@pytest.mark.parametrize("params", UNCHANGED)
def test_parameters_without_a_name_stay_the_same(params: dict[str, str]) -> None:
    assert with_addresses(params) == params


def test_a_name_keeps_its_place_beside_its_address() -> None:
    found = with_addresses({"host": "localhost", "port": "5433", "sslmode": "verify-full"})
    names, addresses, ports = (found[name].split(",") for name in ("host", "hostaddr", "port"))
    assert set(names) == {"localhost"}
    assert "127.0.0.1" in addresses
    assert set(ports) == {"5433"}
    assert len(names) == len(addresses) == len(ports)
    assert found["sslmode"] == "verify-full"


def test_several_hosts_have_their_own_addresses_and_ports_in_the_same_order() -> None:
    found = with_addresses({"host": "127.0.0.1,::1,/run/postgresql", "port": "1,2,3"})
    assert found == {"host": "127.0.0.1,::1,/run/postgresql", "hostaddr": "127.0.0.1,::1,", "port": "1,2,3"}
    assert with_addresses({"host": "127.0.0.1,127.0.0.2", "port": "7"})["port"] == "7,7"
    assert "port" not in with_addresses({"host": "127.0.0.1"})


def test_a_name_without_an_address_is_left_out_if_there_is_another_host() -> None:
    assert with_addresses({"host": "no.such.invalid,127.0.0.2", "port": "1,2"}) == {
        "host": "127.0.0.2",
        "hostaddr": "127.0.0.2",
        "port": "2",
    }


def test_a_name_without_an_address_is_an_error_with_the_name() -> None:
    with pytest.raises(psycopg.OperationalError, match=r"'no\.such\.invalid'"):
        with_addresses({"host": "no.such.invalid"})
