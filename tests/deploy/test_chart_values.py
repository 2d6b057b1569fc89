"""What single values of the Helm chart do, and how wrong ones are refused."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from scripts.chart_readme import PAGE, page, values
from tests.deploy.value_sets import JOBS, OKTA, VALUE_SETS
from tests.helm import CHART, Object, container, containers, helm, kinds, named, plain_environment, pods, programs, template
from tests.servers import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("helm"), pytest.mark.sqlite]


def settings(objects: list[Object]) -> dict[str, str]:
    return plain_environment(container(objects, "skyauth"))


def rendered(name: str) -> list[Object]:
    return template(VALUE_SETS[name]).objects


def caddyfile(objects: list[Object]) -> str:
    text = named(objects, "ConfigMap", "skyauth-gateway")["data"]["Caddyfile"]
    assert isinstance(text, str)
    return text


def test_the_defaults_are_safe() -> None:
    assert settings(rendered("skypilot")) == {
        "AUTH_REDIRECT": "true",
        "DATA_DIR": "/data",
        "ENABLE_SERVICE_ACCOUNTS": "true",
        "LOG_FORMAT": "json",
        "PUBLIC_URL": "http://127.0.0.1:8080",
        "RBAC_DEFAULT_ROLE": "first-admin",
        "SKYPILOT_URL": "http://skypilot-api-service:80",
        "TRUSTED_PROXIES": "127.0.0.1",
    }


def test_a_skypilot_release_needs_its_name_and_nothing_else() -> None:
    objects = rendered("skypilot")
    assert caddyfile(objects).rstrip() == (ROOT / "deploy/skypilot/caddy/Caddyfile").read_text(encoding="utf-8").rstrip()
    assert plain_environment(container(objects, "gateway"))["UPSTREAM"] == "http://skypilot-api-service:80"
    policy = named(objects, "NetworkPolicy", "skyauth-upstream")["spec"]
    assert policy["podSelector"] == {"matchLabels": {"app": "skypilot-api"}}
    peer = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "skyauth", "app.kubernetes.io/instance": "skyauth"}}}
    assert policy["ingress"] == [{"from": [peer]}]
    assert container(objects, "bootstrap")["args"] == ["bootstrap", "--wait", "300", "--pack", "skypilot", "--admin", "admin"]


def test_an_api_in_another_namespace() -> None:
    policy = named(rendered("any-api-other-namespace"), "NetworkPolicy", "skyauth-upstream")
    assert policy["metadata"]["namespace"] == "apis"
    assert policy["spec"]["ingress"][0]["from"][0]["namespaceSelector"] == {
        "matchLabels": {"kubernetes.io/metadata.name": "skypilot"}
    }


def test_the_gateway_of_another_api_is_the_shipped_file() -> None:
    shipped = (ROOT / "deploy/proxies/caddy/Caddyfile").read_text(encoding="utf-8").rstrip()
    assert caddyfile(rendered("any-api-without-pages")).rstrip() == shipped
    assert caddyfile(rendered("any-api")).rstrip() == shipped.replace("#s| ", "")
    assert caddyfile(rendered("okta-any-api")).rstrip() == shipped.replace("#s| ", "").replace("#a| ", "")
    for mark in ("#s| ", "#a| ", "#f| "):
        assert mark in shipped


def test_only_a_load_balancer_that_is_named_can_say_who_the_client_is() -> None:
    text = caddyfile(rendered("load-balancer-any-api"))
    assert "#f| " not in text
    assert text.count("remote_ip 10.0.0.8\n") == 2
    assert "remote_ip 10.0.0.8 10.1.0.0/16\n" in caddyfile(rendered("load-balancer"))
    assert settings(rendered("load-balancer"))["TRUSTED_PROXIES"] == "127.0.0.1"
    # With OAuth2 Proxy, it and SkyAuth read the addresses. The gateway has only OAuth2 Proxy in front.
    objects = rendered("okta-load-balancer")
    assert "#f| " in caddyfile(objects)
    assert settings(objects)["TRUSTED_PROXIES"] == "127.0.0.1,10.0.0.8"
    assert "--trusted-proxy-ip=10.0.0.8" in container(objects, "oauth2-proxy")["args"]


@pytest.mark.parametrize("name", ["okta", "okta-newer-names"])
def test_oauth2_proxy_has_both_names_and_one_meaning(name: str) -> None:
    objects = rendered(name)
    proxy = container(objects, "oauth2-proxy")
    assert {
        "--oidc-issuer-url=https://example.okta.com",
        "--redirect-url=http://127.0.0.1:8080/oauth2/callback",
        "--cookie-secure=false",
        "--upstream=http://127.0.0.1:8080/",
        "--skip-auth-strip-headers=true",
        "--email-domain=*",
    } <= set(proxy["args"])
    assert "--reverse-proxy=true" not in proxy["args"]
    assert named(objects, "Secret", "skyauth-oauth2-proxy")["stringData"] == {"client-id": "id", "client-secret": "secret"}
    assert settings(objects)["AUTH_USER_HEADER_FORMAT"] == "plaintext"
    assert settings(objects)["AUTH_USER_HEADER"] == "X-Forwarded-Email"
    gateway = plain_environment(container(objects, "gateway"))
    assert (gateway["AUTH_PROXY"], gateway["AUTH_USER_HEADER"]) == ("127.0.0.1", "X-Forwarded-Email")
    # Clients reach OAuth2 Proxy, and not the gateway behind it.
    assert named(objects, "Service")["spec"]["ports"][0]["targetPort"] == "oauth2-proxy"
    assert [port["port"] for port in named(objects, "NetworkPolicy")["spec"]["ingress"][0]["ports"]] == ["oauth2-proxy"]
    # The first user who signs in is the admin.
    assert container(objects, "bootstrap")["args"][-1] == "--no-admin"


def test_https_makes_cookies_secure() -> None:
    for name, origin in {
        "google": "https://sky.example.com",
        "okta-ingress": "https://sky.example.com",
        "okta-any-api": "https://jobs.example.com",
    }.items():
        objects = rendered(name)
        assert "--cookie-secure=true" in container(objects, "oauth2-proxy")["args"]
        assert f"--redirect-url={origin}/oauth2/callback" in container(objects, "oauth2-proxy")["args"]
        assert settings(objects)["PUBLIC_URL"] == origin


def test_two_domains_and_groups() -> None:
    args = container(rendered("google-two-domains"), "oauth2-proxy")["args"]
    assert [arg for arg in args if arg.startswith("--email-domain")] == [
        "--email-domain=example.com",
        "--email-domain=example.org",
    ]
    objects = rendered("okta-groups")
    assert container(objects, "oauth2-proxy")["args"][-1] == "--scope=openid email profile groups"
    assert plain_environment(container(objects, "gateway"))["AUTH_GROUPS_HEADER"] == "X-Forwarded-Groups"


def test_the_pages_that_need_a_session_are_those_of_the_guide() -> None:
    guide = (ROOT / "docs/guides/skypilot-sso.md").read_text(encoding="utf-8")
    [pattern] = re.findall(r'skip_auth_routes = \["(.+)"\]', guide)
    assert f"--skip-auth-route={pattern}" in container(rendered("okta"), "oauth2-proxy")["args"]
    assert "--skip-auth-route=!=^/(sign-in|skyauth)(/|$)" in container(rendered("okta-any-api"), "oauth2-proxy")["args"]


@pytest.mark.parametrize(
    ("name", "enabled"),
    [
        ("skypilot", "true"),
        ("no-service-accounts", "false"),
        ("no-service-accounts-newer-name", "false"),
        ("service-accounts-newer-name-wins", "true"),
    ],
)
def test_service_accounts_can_be_switched_off(name: str, enabled: str) -> None:
    assert settings(rendered(name))["ENABLE_SERVICE_ACCOUNTS"] == enabled


def test_the_shared_password_is_a_secret() -> None:
    objects = rendered("auth-string")
    assert named(objects, "Secret", "skyauth-auth")["stringData"]["auth"].startswith("team:$2y$")
    [source] = [one["valueFrom"] for one in container(objects, "skyauth")["env"] if one["name"] == "AUTH_STRING"]
    assert source == {"secretKeyRef": {"name": "skyauth-auth", "key": "auth"}}
    assert settings(objects)["SKYPILOT_SHARED_BASIC"] == "true"
    assert "SKYPILOT_SHARED_BASIC" not in settings(rendered("auth-string-any-api"))
    assert not kinds(rendered("auth-string-secret"), "Secret")


def test_postgresql_of_ones_own() -> None:
    objects = rendered("three-replicas")
    deployment = named(objects, "Deployment")["spec"]
    assert (deployment["replicas"], deployment["strategy"]["rollingUpdate"]["maxUnavailable"]) == (3, 0)
    assert not kinds(objects, "PersistentVolumeClaim")
    [job] = [one for one in kinds(objects, "Job") if "-bootstrap-" in one["metadata"]["name"]]
    assert job["spec"]["template"]["spec"]["containers"][0]["args"][0] == "bootstrap"
    assert container(objects, "wait-for-bootstrap")
    assert "replicas" not in named(rendered("autoscaling"), "Deployment")["spec"]


def test_the_secret_with_the_first_password_is_not_needed_later() -> None:
    for name in ("bootstrap-password", "bootstrap-password-postgresql"):
        objects = rendered(name)
        mounting = [pod for _, pod in pods(objects) if "bootstrap" in [volume["name"] for volume in pod["spec"]["volumes"]]]
        assert len(mounting) == 1
        assert [one["args"][-1] for one in containers(mounting[0]) if one["name"] == "bootstrap"] == ["/run/bootstrap/password"]
        [volume] = [volume["secret"] for volume in mounting[0]["spec"]["volumes"] if volume["name"] == "bootstrap"]
        assert (volume["secretName"], volume["optional"]) == ("first-admin", True)


def test_prometheus_has_a_token() -> None:
    def credentials(name: str) -> Object:
        found: Object = kinds(rendered(name), "ServiceMonitor")[0]["spec"]["endpoints"][0]["authorization"]["credentials"]
        return found

    assert credentials("service-monitor") == {"name": "skyauth-keys", "key": "METRICS_TOKEN"}
    assert credentials("everything-on-postgresql") == {"name": "prometheus", "key": "token"}


def test_whatever_changes_a_bootstrap_job_also_changes_its_name(tmp_path: Path) -> None:
    """A Job cannot be changed: an upgrade with another spec of the same name would fail."""

    def job(chart: Path, *arguments: str) -> tuple[str, Object]:
        objects = template(VALUE_SETS["database-secret"], *arguments, chart=chart).objects
        [found] = [one for one in kinds(objects, "Job") if "-bootstrap-" in one["metadata"]["name"]]
        return found["metadata"]["name"], found["spec"]

    newer = tmp_path / "skyauth"
    shutil.copytree(CHART, newer)
    metadata = (newer / "Chart.yaml").read_text(encoding="utf-8")
    (newer / "Chart.yaml").write_text(metadata.replace("version: 1.0.0-rc.1", "version: 1.0.1"), encoding="utf-8")
    jobs = [
        job(CHART),
        job(newer),
        job(CHART, "--set", "image.tag=1.0.1"),
        job(CHART, "--set", "config.LOG_LEVEL=DEBUG"),
        job(CHART, "--set", "bootstrap.passwordSecret=first-admin"),
        job(CHART, "--set-json", 'tolerations=[{"operator":"Exists"}]'),
        job(CHART, "--set-json", 'extraVolumes=[{"name":"a","emptyDir":{}}]'),
    ]
    assert len({name for name, _ in jobs}) == len({str(spec) for _, spec in jobs}) == len(jobs)
    assert job(CHART) == jobs[0]


def test_an_upgrade_with_reused_values_of_an_older_chart_renders() -> None:
    """`--reuse-values` leaves out each value that the older chart did not have."""
    whole = template({}).text
    kept = {"image": {"repository": "registry.example.com/skyauth"}, "upstream": {"skypilotRelease": "skypilot"}}
    emptied = {key: None for key in yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")) if key not in kept}
    assert template(emptied).text == whole
    assert template({"gateway": {"pages": None, "image": None, "resources": None}}).text == whole


REFUSED = [
    (["image.repository="], "set image.repository to its name"),
    (["upstream.skypilotRelease="], "upstream.url is empty"),
    (["upstream.skypilotRelease=", "upstream.url=http://jobs:8080"], "Set upstream.podSelector to their labels"),
    (["upstream.url=http://jobs:8080/path"], "without a path"),
    (["upstream.url=jobs:8080"], "an address such as http://jobs:8080"),
    (["replicas=2"], "SQLite works with one pod only"),
    (["autoscaling.enabled=true"], "SQLite works with one pod only"),
    (["database.existingSecret=a", "postgresql.enabled=true"], "not both"),
    (["database.url=mysql://a"], "a URL such as postgres://"),
    (["config.TOKEN_MAX_DAYZ=1"], "no setting of SkyAuth"),
    (["config.SECRET_KEY=abc"], "use existingSecret"),
    (["config.DATABASE_URL=abc"], "use database"),
    (["config.AUTH_STRING=abc"], "use ingress.authSecret"),
    (["ingres.enabled=true"], "no value of this chart"),
    (["ingress.oauth2-proxy.clientid=a"], "no value of this chart"),
    (["ingress.oauth2-proxy.client-secret=a,b=c"], "write a comma inside a value as"),
    (["ingress.oauth2-proxy.client-id=1234567890123"], "--set-string"),
    (["auth.oauth.client-secret=1234567890123"], "--set-string"),
    (["ingress.oauth2-proxy.enabled=true"], "without oidc-issuer-url"),
    (["auth.oauth.enabled=true", "auth.oauth.oidc-issuer-url=example.okta.com"], "the https URL of the issuer"),
    (["auth.oauth.enabled=true", "auth.oauth.oidc-issuer-url=https://a.example"], "enabled without credentials"),
    (["ingress.authCredentials=secret"], "htpasswd -nB"),
    (["ingress.enabled=true"], "needs ingress.host"),
    (["httpRoute.enabled=true"], "needs httpRoute.parentRefs"),
    (["httpRoute.externalAuth.enabled=true"], "Set httpRoute.enabled=true"),
    (["gateway.enabled=false"], "Set trustedProxies to its addresses"),
    (["gateway.enabled=false", "trustedProxies={10.0.0.1}"], "Set networkPolicy.proxies to its pods"),
    (["trustedProxies={everybody}"], "an IP address or a network"),
    (["config.METRICS_TOKEN=abc"], "use existingSecret"),
    (["drainSeconds=0"], "minimum"),
    (["publicUrl=sky.example.com"], "an origin such as https://"),
]


@pytest.mark.parametrize(("lines", "words"), REFUSED, ids=[" ".join(lines) for lines, _ in REFUSED])
def test_a_wrong_value_is_refused_in_words(lines: list[str], words: str) -> None:
    for program in programs():
        found = template({}, *(word for line in lines for word in ("--set", line)), program=program)
        assert found.code != 0
        assert words in found.errors


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"auth": {"oauth": OKTA}, "ingress": {"oauth2-proxy": OKTA}}, "Enable only one of them"),
        ({"auth": {"oauth": {**OKTA, "oidc-issuer-url": "https://accounts.google.com"}}}, "Set email-domain to your own domain"),
        (
            {
                "auth": {
                    "oauth": {**OKTA, "email-domain": "*", "oidc-issuer-url": "https://login.microsoftonline.com/common/v2.0"}
                }
            },
            "Set email-domain to your own domain",
        ),
        ({"auth": {"oauth": {**OKTA, "session-store-type": "redis"}}}, "set redis-url or redis-secret"),
        ({"auth": {"oauth": OKTA}, "gateway": {"authProxy": ["10.0.0.1"]}}, "gateway.authProxy is for an auth proxy of your own"),
        (
            {
                **VALUE_SETS["external-auth"],
                "upstream": {"skypilotRelease": "skypilot", "url": ""},
            },
            "cannot protect a SkyPilot API server",
        ),
        ({**VALUE_SETS["external-auth"], "gateway": {"enabled": True}}, "Set gateway.enabled=false"),
    ],
)
def test_values_that_do_not_fit_together_are_refused(given: Object, words: str) -> None:
    found = template(given)
    assert found.code != 0
    assert words in found.errors


def test_config_takes_every_setting_and_no_other() -> None:
    documented = re.findall(r"^### `([A-Z_]+)`", (ROOT / "docs" / "settings.md").read_text(encoding="utf-8"), re.MULTILINE)
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    assert sorted(schema["properties"]["config"]["properties"]) == sorted(documented)


def test_the_schema_knows_each_default_and_is_closed() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    for path, *_ in values((CHART / "values.yaml").read_text(encoding="utf-8")):
        part = schema
        for key in path.split("."):
            assert part["additionalProperties"] == {"$ref": "#/definitions/unknown"}, path
            assert key in part["properties"], path
            part = part["properties"][key]


def test_the_notes_say_what_to_do_next() -> None:
    def notes(given: Object) -> str:
        # `helm template` does not print the notes, so render the file as a manifest of a release that is not installed.
        text = helm(
            "install", "skyauth", str(CHART), "--namespace", "skypilot", "--dry-run=client", "--values", "-",
            stdin=json.dumps({"image": {"repository": "a"}, "upstream": {"skypilotRelease": "skypilot"}} | given),
        )  # fmt: skip
        assert text.code == 0, text.errors
        return text.text.split("NOTES:")[1]

    plain = notes({})
    assert "kubectl -n skypilot port-forward service/skyauth 8080:80" in plain
    assert "logs deployment/skyauth -c bootstrap" in plain
    for value in ("auth.externalProxy.enabled=true", "ingress.enabled=false", "apiService.enableUserManagement=false"):
        assert f"--set {value}" in plain
    assert "WARNING" not in plain
    okta = notes({"auth": {"oauth": OKTA}, "publicUrl": "https://sky.example.com"})
    assert "https://sky.example.com/oauth2/callback" in okta
    assert "trustedProxies is empty" in okta
    assert "is not https" in notes({"publicUrl": "http://sky.example.com"})
    assert "networkPolicy.enabled is false" in notes({**JOBS, "networkPolicy": {"enabled": False}})


def test_the_readme_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_a_packaged_chart_has_its_files(tmp_path: object) -> None:
    """The files of the proxies are symbolic links in the checkout, and files in a package."""
    packaged = helm("package", str(CHART), "--destination", str(tmp_path))
    assert packaged.code == 0, packaged.errors
    [archive] = re.findall(r"\S+\.tgz", packaged.text)
    rendered_from = helm("template", "skyauth", archive, "--namespace", "skypilot", "--values", "-", stdin=json.dumps(
        {"image": {"repository": "registry.example.com/skyauth"}, "upstream": {"skypilotRelease": "skypilot"}}
    ))  # fmt: skip
    assert rendered_from.objects == template({}).objects
