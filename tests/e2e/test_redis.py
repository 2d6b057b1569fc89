"""CACHE_URL, with a real Redis: the cache is shared by processes, and nothing that decides is in it."""

import subprocess
import sys

import pytest

from tests.http_client import bearer
from tests.servers import ROOT, directory, environment, redis, skyauth_server

pytestmark = [pytest.mark.e2e, pytest.mark.sqlite]

SCRIPT = """
import django, sys
django.setup()
from django.core.cache import cache
cache.set(*sys.argv[1:]) if len(sys.argv) == 3 else print(cache.get(sys.argv[1]))
"""


def test_two_processes_share_the_cache_that_cache_url_names() -> None:
    with redis() as url, directory() as data:
        values = environment(CACHE_URL=url, DATA_DIR=str(data), DJANGO_SETTINGS_MODULE="skyauth.settings")

        def run(*arguments: str) -> str:
            command = [sys.executable, "-c", SCRIPT, *arguments]
            done = subprocess.run(command, cwd=ROOT, env=values, capture_output=True, text=True, check=True, timeout=60)
            return done.stdout.strip()

        assert run("answer") == "None"
        run("answer", "42")
        assert run("answer") == "42"


def test_revoking_holds_on_the_next_request_with_a_shared_cache_and_requests_go_on_when_it_is_gone() -> None:
    with redis() as url:
        pass  # it is stopped again: a cache that is gone must not decide anything, nor stop anything
    with skyauth_server(CACHE_URL=url) as server:
        server.console("create_account", name="pipeline", role="user")
        token = server.console("issue", account="pipeline")
        assert server.ask(bearer(token)).status == 200
        server.console("revoke", token=token)
        assert server.ask(bearer(token)).status == 401
