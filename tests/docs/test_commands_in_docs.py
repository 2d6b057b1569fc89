"""Every command that README and docs show is run, and what the README says it prints is what it prints."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest
import yaml

from accounts.models import User
from skyauth.configuration import env
from tests.commands.run_command import run as run_command
from tests.servers import ROOT, Console, Launch, database, directory, environment, launched
from tests.verify_client import denied

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("docs"), pytest.mark.sqlite]

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")
_SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def session(text: str) -> list[tuple[str, str]]:
    """Return the commands of console blocks, each with the output shown below it."""
    steps = []
    for block in _BLOCK.findall(text):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            steps.append((command, output.strip()))
    return steps


def same_everywhere(text: str) -> str:
    """Return output without what differs from run to run: random ids, and the room at the ends of lines."""
    text = re.sub(r"sa-[0-9a-f]{16}", "sa-0000000000000000", text)
    text = re.sub(r'("decision": "|Decision ID +)[0-9A-Za-z]{12}', r"\1000000000000", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "2000-01-01 00:00", text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def commands(text: str) -> list[str]:
    """Return the commands of SkyAuth in a page: first those in shell blocks, then those in sentences."""
    lines = [
        line for block in _SHELL.findall(text) for line in block.splitlines() if line.startswith(("manage.py", "bin/skyauth"))
    ]
    return lines + re.findall(r"`(manage\.py [a-z_]+[^`]*)`", text)


GUIDES = ROOT / "docs" / "guides"
COMMANDS = {page.stem: lines for page in sorted(GUIDES.glob("*.md")) if (lines := commands(page.read_text(encoding="utf-8")))}


def anchors(text: str) -> set[str]:
    """Return the fragments by which a page's headings are linked, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 _-]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def run() -> Iterator[Launch]:
    """What `make run` starts."""
    with directory() as data, database() as where, launched(data, COLUMNS="120", **where) as running:
        yield running


def test_the_readme_shows_what_really_happens(run: Launch) -> None:
    steps = session((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(steps) >= 6
    for command, shown in steps:
        here = command.replace(":8080", f":{run.gateway}").replace(".venv/bin/python", sys.executable)
        done = subprocess.run(
            ["bash", "-c", here],
            cwd=ROOT,
            env={**run.environment, "TOKEN": run.token},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert same_everywhere(done.stdout) == same_everywhere(shown), (command, done.stderr)


def test_make_has_the_two_commands_that_the_readme_names() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in ("run", "test"):
        assert f"make {target} " in text
        assert subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_the_guides_show_commands() -> None:
    assert {"production", "tokens", "users", "monitoring", "skypilot"} <= set(COMMANDS)
    assert sum(len(lines) for lines in COMMANDS.values()) >= 25


@pytest.mark.parametrize("guide", COMMANDS)
def test_the_commands_of_a_guide_work_in_the_order_shown(guide: str) -> None:
    with directory() as data, database() as where:
        values = environment(DATA_DIR=str(data), SKYPILOT_URL="http://127.0.0.1:46580", **where)
        # No server answers there, and a deletion would ask it.
        with closing(Console({name: value for name, value in values.items() if name != "SKYPILOT_URL"})) as console:
            console("create_user", name="bob@example.com", role="user", password="correct horse battery staple")
            console("create_user", name="eve@example.com", role="user")
            console("delete_user", name="eve@example.com")
            for line in COMMANDS[guide]:
                key_id = console("issue", account="pipeline").split("_")[1] if "KEY_ID" in line else ""
                words = line.replace("manage.py", f"{sys.executable} {ROOT / 'manage.py'}", 1).replace("KEY_ID", key_id)
                words = words.replace("bin/skyauth", str(ROOT / "bin" / "skyauth"))
                # restore refuses while another program, here the console, uses the database; tests/e2e/test_backup.py runs it.
                if not re.search(r"manage\.py (serve|doctor|restore)", line):
                    done = subprocess.run(
                        ["bash", "-c", words], cwd=data, env=values, capture_output=True, text=True, timeout=60, check=False
                    )
                    # explain ends with 1 where the request would be denied.
                    expected = {0, 1} if "manage.py explain" in line else {0}
                    assert done.returncode in expected, (line, done.stdout, done.stderr)


def test_the_guide_to_denied_requests_shows_what_explaining_one_prints(read_write: None, vera: User) -> None:
    steps = session((GUIDES / "denied-requests.md").read_text(encoding="utf-8"))
    [(command, shown)] = [step for step in steps if step[0].startswith("manage.py explain")]
    assert re.fullmatch(r"manage\.py explain [0-9A-Za-z]{12}", command)
    assert same_everywhere(run_command("explain", denied(vera, "POST", "/jobs")).out) == same_everywhere(shown)


def test_every_variable_that_a_guide_sets_exists() -> None:
    known = {setting.name for setting in env.settings} | {"TOKEN", "AUTH_PROXY", "UPSTREAM"}
    known |= {"SKYPILOT_API_SERVER_ENDPOINT", "SKYPILOT_SERVICE_ACCOUNT_TOKEN"}  # the sky CLI's own
    for page in GUIDES.glob("*.md"):
        for block in _SHELL.findall(page.read_text(encoding="utf-8")):
            named = set(re.findall(r"^(?:export )?([A-Z_]+)=", block, re.MULTILINE))
            assert named <= known, (page.name, named - known)


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in [*(ROOT / "docs").glob("*.md"), *GUIDES.glob("*.md")]:
        assert page.name == "README.md" or f"({page.relative_to(ROOT / 'docs')})" in index, page.name
    index = (ROOT / "docs" / "adr" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs" / "adr").glob("0*.md"):
        assert f"({page.name})" in index, page.name


def test_every_link_in_the_docs_leads_to_a_file() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "SECURITY.md"]
    pages += sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "deploy").rglob("*.md"))
    links = [(page, *link) for page in pages for link in _LINK.findall(page.read_text(encoding="utf-8"))]
    assert len(links) > 50
    for page, target, anchor in links:
        linked = page.parent / target if target else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(linked.read_text(encoding="utf-8")), f"{page.name}: {target}#{anchor}"


def test_every_configuration_that_the_docs_show_is_yaml() -> None:
    blocks = [
        block
        for page in sorted((ROOT / "docs").rglob("*.md"))
        for block in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    ]
    assert len(blocks) >= 4
    for block in blocks:
        assert isinstance(yaml.safe_load(block), dict), block
