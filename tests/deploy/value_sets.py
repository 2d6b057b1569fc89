"""Sets of values for the Helm chart, one for each way to install it. Each is on top of `tests.helm.BASE`."""

from typing import Any

OKTA = {"enabled": True, "oidc-issuer-url": "https://example.okta.com", "client-id": "id", "client-secret": "secret"}
GOOGLE = {**OKTA, "oidc-issuer-url": "https://accounts.google.com", "email-domain": "example.com"}
OWN_POSTGRESQL = {"database": {"existingSecret": "database"}}
JOBS = {"upstream": {"skypilotRelease": "", "url": "http://jobs:8080", "podSelector": {"app": "jobs"}}}
PROXIES = [{"podSelector": {"matchLabels": {"app": "envoy"}}}]
OWN_PROXY = {**JOBS, "gateway": {"enabled": False}, "trustedProxies": ["10.0.0.0/8"], "networkPolicy": {"proxies": PROXIES}}
ROUTE = {"enabled": True, "parentRefs": [{"name": "public"}], "hostnames": ["jobs.example.com"]}

VALUE_SETS: dict[str, dict[str, Any]] = {
    "skypilot": {},
    "skypilot-other-namespace": {"upstream": {"namespace": "sky"}},
    "skypilot-own-address": {"upstream": {"url": "http://sky.internal:46580", "podSelector": {"app": "sky"}}},
    "any-api": JOBS,
    "any-api-without-pages": {**JOBS, "gateway": {"pages": False}},
    "any-api-other-namespace": {"upstream": {**JOBS["upstream"], "namespace": "apis"}},
    "no-network-policy": {**JOBS, "networkPolicy": {"enabled": False}},
    "network-policy-clients": {
        "networkPolicy": {
            "clients": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
            "metrics": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            "upstreamClients": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
        }
    },
    "public-url": {"publicUrl": "https://sky.example.com"},
    "public-url-slash": {"publicUrl": "https://sky.example.com/"},
    "load-balancer": {"publicUrl": "https://sky.example.com", "trustedProxies": ["10.0.0.8", "10.1.0.0/16"]},
    "load-balancer-any-api": {**JOBS, "publicUrl": "https://jobs.example.com", "trustedProxies": ["10.0.0.8"]},
    "ingress": {"ingress": {"enabled": True, "host": "sky.example.com"}},
    "ingress-tls": {
        "ingress": {
            "enabled": True,
            "host": "sky.example.com",
            "tlsSecret": "sky-tls",
            "ingressClassName": "traefik",
            "annotations": {"example.com/a": "b"},
        }
    },
    "http-route": {"httpRoute": ROUTE},
    "external-auth": {
        **OWN_PROXY,
        "httpRoute": {**ROUTE, "externalAuth": {"enabled": True, "backendRef": {"name": "jobs", "port": 8080}}},
    },
    "own-proxy": OWN_PROXY,
    "okta": {"ingress": {"oauth2-proxy": OKTA}},
    "okta-secret": {"ingress": {"oauth2-proxy": {**OKTA, "client-id": "", "client-details-from-secret": "okta"}}},
    "okta-newer-names": {"auth": {"oauth": OKTA}},
    "okta-any-api": {**JOBS, "publicUrl": "https://jobs.example.com", "auth": {"oauth": OKTA}},
    "okta-ingress": {"ingress": {"enabled": True, "host": "sky.example.com", "oauth2-proxy": {**OKTA, "use-https": True}}},
    "okta-load-balancer": {"publicUrl": "https://sky.example.com", "trustedProxies": ["10.0.0.8"], "auth": {"oauth": OKTA}},
    "okta-groups": {
        "auth": {"oauth": {**OKTA, "extraArgs": ["--scope=openid email profile groups"]}},
        "config": {"AUTH_GROUPS_HEADER": "X-Forwarded-Groups"},
    },
    "google": {"publicUrl": "https://sky.example.com", "ingress": {"oauth2-proxy": GOOGLE}},
    "google-two-domains": {"auth": {"oauth": {**GOOGLE, "email-domain": "example.com, example.org"}}},
    "redis": {"auth": {"oauth": {**OKTA, "session-store-type": "redis", "redis-url": "redis://redis:6379"}}},
    "redis-secret": {"auth": {"oauth": {**OKTA, "session-store-type": "redis", "redis-secret": "redis", "cookie-refresh": "1h"}}},
    "own-auth-proxy": {
        **JOBS,
        "gateway": {"authProxy": ["10.0.0.4"]},
        "config": {"AUTH_USER_HEADER_FORMAT": "plaintext", "AUTH_USER_HEADER": "X-User"},
    },
    "auth-string": {"ingress": {"authCredentials": "team:$2y$10$abcdefghijklmnopqrstuv"}},
    "auth-string-secret": {"ingress": {"authSecret": "htpasswd"}},
    "auth-string-any-api": {**JOBS, "ingress": {"authSecret": "htpasswd"}},
    "no-service-accounts": {"apiService": {"enableServiceAccounts": False}},
    "no-service-accounts-newer-name": {"auth": {"serviceAccount": {"enabled": False}}},
    "service-accounts-newer-name-wins": {
        "auth": {"serviceAccount": {"enabled": True}},
        "apiService": {"enableServiceAccounts": False},
    },
    "existing-secret": {"existingSecret": "skyauth-secrets"},
    "existing-claim": {"persistence": {"existingClaim": "data"}},
    "storage-class": {"persistence": {"storageClassName": "fast", "size": "5Gi"}},
    "database-secret": OWN_POSTGRESQL,
    "database-secret-key": {"database": {"existingSecret": "database", "key": "uri"}},
    "database-url": {"database": {"url": "postgres://skyauth:password@db.example.com:5432/skyauth?sslmode=verify-full"}},
    "postgresql": {"postgresql": {"enabled": True, "storageClassName": "fast"}},
    "three-replicas": {**OWN_POSTGRESQL, "replicas": 3, "workers": 2},
    "autoscaling": {**OWN_POSTGRESQL, "autoscaling": {"enabled": True}},
    "everything-on-postgresql": {
        **OWN_POSTGRESQL,
        "existingSecret": "keys",
        "publicUrl": "https://sky.example.com",
        "trustedProxies": ["10.0.0.0/8"],
        "auth": {"oauth": {**OKTA, "client-details-from-secret": "okta"}},
        "autoscaling": {"enabled": True, "minReplicas": 3},
        "serviceMonitor": {"enabled": True, "tokenSecret": "prometheus"},
        "httpRoute": {**ROUTE, "annotations": {"example.com/a": "b"}},
    },
    "service-monitor": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "bootstrap-password": {"bootstrap": {"admin": "alice@example.com", "passwordSecret": "first-admin"}},
    "bootstrap-password-postgresql": {**OWN_POSTGRESQL, "bootstrap": {"passwordSecret": "first-admin"}},
    "bootstrap-admin-with-okta": {"auth": {"oauth": OKTA}, "bootstrap": {"admin": "alice@example.com"}},
    "no-bootstrap": {"bootstrap": {"enabled": False}, "prune": {"enabled": False}, "podDisruptionBudget": {"enabled": False}},
    "settings": {"config": {"TOKEN_MAX_DAYS": 90, "RECENT_REQUESTS": 2_000_000, "AUTH_BASIC": False, "LOG_LEVEL": "DEBUG"}},
    "openshift": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}},
    "ipv6": {"bindAddress": "::", "auth": {"oauth": OKTA}},
    "slow-load-balancer": {"drainSeconds": 30, "service": {"type": "LoadBalancer", "annotations": {"example.com/a": "b"}}},
    "placement": {
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "high",
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
        "podLabels": {"team": "a"},
        "podAnnotations": {"b": "c"},
        "imagePullSecrets": ["registry"],
        "serviceAccountName": "skyauth",
        "image": {"digest": "sha256:" + "0" * 64},
    },
    "global": {"global": {"imageRegistry": "registry.example.com"}},
    "extras": {
        "extraEnv": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}],
        "extraVolumes": [{"name": "assertion-keys", "secret": {"secretName": "assertion-keys"}}],
        "extraVolumeMounts": [{"name": "assertion-keys", "mountPath": "/run/keys", "readOnly": True}],
        "config": {"ASSERTION_KEYS": "/run/keys/key.pem", "TRACING": True},
    },
}
