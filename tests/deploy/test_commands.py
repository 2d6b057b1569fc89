"""The helm commands of the guides, and of the text that SkyAuth was specified from, work with the chart as they are printed."""

import pytest

from tests.deploy.value_sets import OKTA
from tests.helm import BASE, container, plain_environment, set_lines, template
from tests.requirements import missing
from tests.servers import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("helm"), pytest.mark.sqlite]

TEXT = (ROOT / "tests" / "deploy" / "skypilot_text.txt").read_text(encoding="utf-8")
SKYPILOT = "skypilot/skypilot-nightly"
GUIDES = {
    f"{page.stem}-{number}": (page.read_text(encoding="utf-8"), number)
    for page in sorted((ROOT / "docs" / "guides").glob("*.md"))
    for number, _ in enumerate(set_lines(page.read_text(encoding="utf-8"), "deploy/helm/skyauth"))
}
# What an earlier command of the guide has set: the release exists, and its values are reused.
INSTALLED = {**BASE, "publicUrl": "https://sky.example.com"}
WITH_OKTA = {"ingress": {"oauth2-proxy": OKTA}}


def test_the_guide_has_commands() -> None:
    assert sum(name.startswith("kubernetes-") for name in GUIDES) >= 14


@pytest.mark.parametrize("name", GUIDES)
def test_a_command_of_a_guide_renders(name: str) -> None:
    text, number = GUIDES[name]
    arguments = set_lines(text, "deploy/helm/skyauth")[number]
    installs = any(word.startswith("image.repository=") for word in arguments)
    base = {} if installs else INSTALLED
    given = WITH_OKTA if "extraArgs" in str(arguments) else {}
    assert template(given, *arguments, base=base).objects


def test_the_excerpt_has_every_command_of_the_text() -> None:
    [*found] = [path for parent in ROOT.parents for path in (parent / "shared" / "contract").glob("*.txt")]
    if not found:
        missing("needs the text that SkyAuth was specified from, in ../shared/contract")
    assert [set_lines(path.read_text(encoding="utf-8"), SKYPILOT) for path in found] == [set_lines(TEXT, SKYPILOT)]


def test_the_texts_commands_work_unchanged() -> None:
    okta, secret, service_accounts = set_lines(TEXT, SKYPILOT)
    objects = template({}, *okta, base=INSTALLED).objects
    proxy = container(objects, "oauth2-proxy")
    assert "--oidc-issuer-url=https://okta-url.okta.com" in proxy["args"]
    assert "--redirect-url=https://sky.example.com/oauth2/callback" in proxy["args"]
    objects = template({}, *secret, base=INSTALLED).objects
    sources = {one["valueFrom"]["secretKeyRef"]["name"] for one in container(objects, "oauth2-proxy")["env"]}
    assert sources == {"oauth2-proxy-credentials", "skyauth-keys"}
    objects = template({}, *service_accounts, base=INSTALLED).objects
    assert plain_environment(container(objects, "skyauth"))["ENABLE_SERVICE_ACCOUNTS"] == "false"
