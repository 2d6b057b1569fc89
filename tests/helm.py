"""The Helm chart, rendered by the real helm: `make deploy-tools` builds it."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.requirements import missing
from tests.servers import ROOT

CHART = ROOT / "deploy" / "helm" / "skyauth"
TOOLS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skyauth-tools"
HINT = "make deploy-tools"
BASE = {"image": {"repository": "registry.example.com/skyauth"}, "upstream": {"skypilotRelease": "skypilot"}}

Object = dict[str, Any]


class Rendered(NamedTuple):
    """What helm printed: the exit code, the objects as text, and the errors."""

    code: int
    text: str
    errors: str

    @property
    def objects(self) -> list[Object]:
        """The rendered objects. Fails if helm refused the values."""
        assert self.code == 0, self.errors
        return [found for found in yaml.load_all(self.text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if found]


@cache
def programs() -> tuple[str, ...]:
    """Return each helm of the cache that `make deploy-tools` fills, or the one on PATH. Skips the test if there is none."""
    built = sorted(str(path) for path in TOOLS.glob("helm-*/helm"))
    found = built or [path for path in [shutil.which("helm")] if path]
    return tuple(found) or missing(f"needs helm: {HINT}")


def helm(*arguments: str, program: str = "", stdin: str = "") -> Rendered:
    """Run helm, without the notices about symbolic links that it prints for a chart that is not packaged."""
    done = subprocess.run(
        [program or programs()[-1], *arguments], input=stdin, capture_output=True, text=True, timeout=120, check=False
    )
    errors = [line for line in done.stderr.splitlines() if "found symbolic link" not in line]
    return Rendered(done.returncode, done.stdout, "\n".join(errors))


def template(values: Object, *arguments: str, base: Object = BASE, chart: Path = CHART, program: str = "") -> Rendered:
    """Render the chart with `values` on top of `base`, and the further arguments."""
    # A helm 3 that `go install` builds pretends to know only Kubernetes 1.20.
    options = ["--namespace", "skypilot", "--kube-version", "1.31.0", "--values", "-", *arguments]
    return helm("template", "skyauth", str(chart), *options, program=program, stdin=json.dumps(merged(base, values)))


def merged(base: Object, over: Object) -> Object:
    """Return `base` with the keys of `over`, map by map, as helm merges values files."""
    result = dict(base)
    for key, value in over.items():
        known = result.get(key)
        result[key] = merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result


def named(objects: Iterable[Object], kind: str, name: str = "skyauth") -> Object:
    """Return the one object of this kind and name."""
    [found] = [one for one in objects if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def kinds(objects: Iterable[Object], kind: str) -> list[Object]:
    """Return all objects of a kind."""
    return [one for one in objects if one["kind"] == kind]


def pods(objects: Iterable[Object]) -> Iterator[tuple[Object, Object]]:
    """Yield each object that starts pods, with its pod template."""
    for one in objects:
        match one["kind"]:
            case "Deployment" | "StatefulSet" | "Job":
                yield one, one["spec"]["template"]
            case "CronJob":
                yield one, one["spec"]["jobTemplate"]["spec"]["template"]


def containers(pod: Object) -> list[Object]:
    """Return all containers of a pod template."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def container(objects: Iterable[Object], name: str) -> Object:
    """Return a container of the Deployment, by its name."""
    [found] = [one for one in containers(named(objects, "Deployment")["spec"]["template"]) if one["name"] == name]
    return found


def plain_environment(container: Object) -> dict[str, str]:
    """Return the environment of a container, without what comes from Secrets."""
    return {one["name"]: one["value"] for one in container.get("env", []) if "value" in one}


def set_lines(text: str, chart: str) -> list[list[str]]:
    """Return the `--set` arguments of each helm command for `chart` in a text, and of each that stands alone in a sentence."""
    joined = re.sub(r"\\\n\s*", " ", text)
    commands = [line for line in joined.splitlines() if re.search(rf"\bhelm (upgrade|install) .*{chart}", line)]
    inline = re.findall(r"`+(--set(?:-string)? [^`]+=[^`]+)`+", joined)
    return [found for line in [*commands, *inline] if (found := arguments(line))]


def arguments(line: str) -> list[str]:
    """Return the `--set` arguments of one command, with values for placeholders such as <CLIENT ID> and $NAMESPACE."""
    filled = re.sub(r"<([A-Z ]+)>", lambda found: found[1].lower().replace(" ", "-"), line)
    filled = filled.replace("$AUTH_STRING", "team:$2y$05$abc").replace("$RELEASE_NAME", "skypilot")
    pairs = re.findall(r"(--set(?:-string|-json)?) ('[^']*'|\S+)", filled)
    return [word for option, value in pairs for word in (option, value.strip("'"))]
