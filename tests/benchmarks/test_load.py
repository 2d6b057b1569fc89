"""What is asked for, and what wrk says of it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.errors import BenchmarkError
from benchmarks.load import COMMON, CONNECTIONS, Load, Requests, ask_each, check, drive, parse, require, template
from benchmarks.run import INSTALL
from tests.requirements import need_program

COUNTED = {"requests": 9_000, "seconds": 2.0, "refused": 0, "failed": 0, "sent": 9_031, "ended": False, "p50": 700, "p99": 2_100}


def counted(**changes: object) -> Load:
    """Return what wrk counted."""
    return Load(**{**COUNTED, **changes})  # type: ignore[arg-type]


class Picky(BaseHTTPRequestHandler):
    """Lets in whoever shows `good`, and notes what was asked; to `closing` it says goodbye too."""

    protocol_version = "HTTP/1.1"
    shown: list[str]

    def do_GET(self) -> None:
        credential = self.headers.get("Authorization", "")
        self.shown.append(credential)
        self.send_response(200 if credential in {"Bearer good", "Bearer closing"} else 401)
        self.send_header("Content-Length", "2")
        if credential == "Bearer closing":
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Has room for all of wrk's connections at once, and does not mind that they end without a goodbye."""

    request_queue_size = 2 * CONNECTIONS

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def picky() -> Iterator[tuple[int, list[str]]]:
    """A server that tells good credentials from bad ones: its port, and the list of what it was shown."""
    shown: list[str] = []
    handler = type("Handler", (Picky,), {"shown": shown})
    with Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, shown
        server.shutdown()
        thread.join()


@pytest.fixture
def requests(tmp_path: Path) -> Requests:
    """Five tokens, of which three are the working set."""
    (tmp_path / "bearer.http").write_bytes(template("/x", ("Authorization", "Bearer @@"), asked="/jobs"))
    (tmp_path / "tokens.txt").write_text("aaaa\nbbbb\ncccc\ndddd\neeee\n", encoding="ascii")
    return Requests(tmp_path / "bearer.http", tmp_path / "tokens.txt", 3)


def tokens_in(requests: Iterator[bytes]) -> list[str]:
    return [one.decode().partition("Bearer ")[2].partition("\r\n")[0] for one in requests]


def test_a_request_has_the_common_headers_its_own_and_nothing_after_them() -> None:
    raw = template("/authz/verify", ("Cookie", "a=b"), asked="/jobs").decode()
    head, blank, body = raw.partition("\r\n\r\n")
    lines = head.split("\r\n")
    assert (lines[0], blank, body) == ("GET /authz/verify HTTP/1.1", "\r\n\r\n", "")
    assert lines[1:] == [*(f"{name}: {value}" for name, value in COMMON), "X-Forwarded-Uri: /jobs", "Cookie: a=b"]


def test_a_working_set_is_asked_whole_each_time(requests: Requests) -> None:
    assert tokens_in(requests.one_by_one()) == ["aaaa", "bbbb", "cccc"]
    assert tokens_in(requests.one_by_one()) == ["aaaa", "bbbb", "cccc"]
    assert requests.arguments()[2:] == ["rotate", "3"]


def test_a_walk_goes_on_where_it_was_and_shows_nothing_twice(requests: Requests) -> None:
    requests.walks, requests.position = True, 1
    assert tokens_in(requests.one_by_one()) == ["bbbb"]
    assert tokens_in(requests.one_by_one()) == ["cccc"]
    assert requests.arguments()[2:] == ["walk", str(3 * len("aaaa\n"))]


def test_what_wrk_counted_is_its_last_line() -> None:
    load = parse("Running 2s test\n  Requests/sec: 1.0\n" + json.dumps(COUNTED) + "\n")
    assert load == counted()
    assert load.rate == 4_500


@pytest.mark.parametrize("output", ["", "unable to connect to 127.0.0.1:1", '{"requests": 1}', "[1]"])
def test_output_without_figures_is_an_error(output: str) -> None:
    with pytest.raises(BenchmarkError, match="wrk did not say what it counted"):
        parse(output)


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        (counted(refused=1), 200),
        (counted(refused=8_999), 401),
        (counted(failed=1), 200),
        (counted(requests=0), 200),
        (counted(ended=True), 200),
    ],
)
def test_a_figure_with_a_wrong_answer_in_it_is_none(load: Load, expected: int) -> None:
    with pytest.raises(BenchmarkError, match="somebody"):
        check(load, expected, "somebody")


def test_a_figure_of_right_answers_stands() -> None:
    check(counted(), 200, "somebody")
    check(counted(refused=9_000), 401, "somebody")


def test_each_request_is_made_once_and_its_status_counted(picky: tuple[int, list[str]]) -> None:
    port, shown = picky
    wanted = ["good", "bad", "closing", "good"]
    asked = [template("/", ("Authorization", f"Bearer {word}"), asked="/") for word in wanted]
    assert ask_each(port, asked) == {200: 3, 401: 1}
    assert shown == [f"Bearer {word}" for word in wanted]


def test_one_wrong_answer_among_right_ones_is_an_error(picky: tuple[int, list[str]]) -> None:
    port, _ = picky
    good, bad = (template("/", ("Authorization", f"Bearer {word}"), asked="/") for word in ("good", "bad"))
    require(port, [good, good], (200,), "the server")
    require(port, [bad], (401, 403), "the server")
    with pytest.raises(BenchmarkError, match=r"the server: .* 200; there was 1 times 200, 1 times 401\."):
        require(port, [good, bad], (200,), "the server")
    with pytest.raises(BenchmarkError, match="there was nothing"):
        require(port, [], (200,), "the server")


@pytest.fixture
def wrk() -> str:
    """The load generator."""
    return need_program("wrk", hint=INSTALL)


@pytest.fixture
def many(requests: Requests) -> Requests:
    """More tokens than a server in Python is asked for in two seconds."""
    requests.credentials.write_text("".join(f"{n:06}\n" for n in range(100_000)), encoding="ascii")
    return requests


@pytest.mark.e2e
@pytest.mark.sqlite
def test_wrk_takes_turns_with_the_working_set_and_nothing_else(wrk: str, picky: tuple[int, list[str]], many: Requests) -> None:
    port, shown = picky
    load = drive(wrk, port, many, 1)
    assert set(shown) == {"Bearer 000000", "Bearer 000001", "Bearer 000002"}
    assert load.refused == load.requests > 3
    assert many.position == 0


@pytest.mark.e2e
@pytest.mark.sqlite
def test_wrk_shows_no_token_twice_on_a_walk_not_even_in_the_next_round(
    wrk: str, picky: tuple[int, list[str]], many: Requests
) -> None:
    port, shown = picky
    many.walks, many.position = True, 10
    loads = [drive(wrk, port, many, 1) for _ in range(2)]
    assert len(shown) == len(set(shown))
    assert min(shown) == "Bearer 000010"
    assert max(shown) <= f"Bearer {many.position - 1:06}"
    assert many.position == 10 + sum(load.sent for load in loads)
    assert not any(load.ended for load in loads)
    assert all(load.requests <= load.sent <= load.requests + CONNECTIONS for load in loads)


@pytest.mark.e2e
@pytest.mark.sqlite
def test_a_walk_that_comes_to_an_end_says_so(wrk: str, picky: tuple[int, list[str]], many: Requests) -> None:
    port, shown = picky
    many.walks, many.position = True, 99_900
    load = drive(wrk, port, many, 1)
    assert load.ended
    assert {f"Bearer {n:06}" for n in range(99_900, 100_000)} == set(shown)
    with pytest.raises(BenchmarkError, match="fewer new credentials than requests"):
        check(load, 401, "somebody")


def test_nobody_at_home_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="No answer from port 1"):
        ask_each(1, [b"GET / HTTP/1.1\r\n\r\n"])
