"""Create the Secret with SkyAuth's random keys, if it does not exist. An existing Secret is never changed.

It runs in a Job of the chart, with the token of a ServiceAccount that can only create Secrets. It needs nothing but Python.
"""

import base64
import json
import os
import secrets
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def manifest(namespace: str, name: str) -> dict[str, object]:
    """Return a Secret with new random values."""
    keys = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "METRICS_TOKEN": secrets.token_hex(32),
        "cookie-secret": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "postgres-password": secrets.token_hex(24),
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/name": "skyauth"}},
        "stringData": keys,
    }


def create(server: str, namespace: str, name: str, account: Path = ACCOUNT) -> str:
    """Send the Secret to the Kubernetes API at `server`. Returns what was done; raises HTTPError if it is refused."""
    request = urllib.request.Request(  # noqa: S310 - the address is that of the Kubernetes API
        f"{server}/api/v1/namespaces/{namespace}/secrets",
        data=json.dumps(manifest(namespace, name)).encode(),
        headers={
            "Authorization": "Bearer " + (account / "token").read_text(encoding="ascii").strip(),
            "Content-Type": "application/json",
        },
        method="POST",
    )
    context = ssl.create_default_context(cafile=str(account / "ca.crt"))
    try:
        with urllib.request.urlopen(request, timeout=30, context=context):  # noqa: S310
            return f"Secret {name} created."
    except urllib.error.HTTPError as error:
        if error.code == 409:
            return f"Secret {name} exists, and stays as it is."
        raise


if __name__ == "__main__":
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    host = f"[{host}]" if ":" in host else host
    try:
        print(create(f"https://{host}:{port}", *sys.argv[1:3]))
    except urllib.error.HTTPError as error:
        sys.exit(f"The Secret was not created: {error.code} {error.read().decode(errors='replace')}")
