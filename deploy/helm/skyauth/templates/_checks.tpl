{{/* Values that fit the schema but cannot work, or would be unsafe. Each message says what to set. */}}
{{- define "skyauth.checks" -}}
{{- $v := include "skyauth.values" . | fromYaml -}}
{{- $oauth := include "skyauth.oauth" . | fromYaml -}}
{{- $sqlite := eq (include "skyauth.database" .) "sqlite" -}}
{{- if not $v.image.repository -}}
{{- fail "image.repository is empty. Build the image of SkyAuth, push it to your registry, and set image.repository to its name." -}}
{{- end -}}
{{- if and $v.gateway.enabled (not (include "skyauth.upstreamUrl" .)) -}}
{{- fail "upstream.url is empty. Set it to the address of your API, such as http://jobs:8080, or set upstream.skypilotRelease to the release name of SkyPilot's chart." -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled (not (include "skyauth.upstreamLabels" .)) -}}
{{- fail "The NetworkPolicy cannot know which pods are your API. Set upstream.podSelector to their labels (--set upstream.podSelector.app=jobs). If the API is not in this cluster, or another policy protects it, set networkPolicy.enabled=false." -}}
{{- end -}}
{{- if and $sqlite (or (gt (int $v.replicas) 1) $v.autoscaling.enabled) -}}
{{- fail "SQLite works with one pod only. Set replicas=1 and autoscaling.enabled=false, or use PostgreSQL: database.existingSecret or database.url." -}}
{{- end -}}
{{- if and (or $v.database.url $v.database.existingSecret) $v.postgresql.enabled -}}
{{- fail "Set either database.url (or database.existingSecret) or postgresql.enabled, not both." -}}
{{- end -}}
{{- if and $v.auth.oauth.enabled (index $v.ingress "oauth2-proxy").enabled -}}
{{- fail "auth.oauth and ingress.oauth2-proxy are two names for the same thing. Enable only one of them." -}}
{{- end -}}
{{- if $oauth -}}
{{- if not $v.gateway.enabled -}}
{{- fail "OAuth2 Proxy needs the gateway of this chart, which accepts its identity header. Set gateway.enabled=true." -}}
{{- end -}}
{{- if $v.gateway.authProxy -}}
{{- fail "gateway.authProxy is for an auth proxy of your own. Remove it, or disable OAuth2 Proxy." -}}
{{- end -}}
{{- $issuer := get $oauth "oidc-issuer-url" | default "" -}}
{{- if not $issuer -}}
{{- fail "OAuth2 Proxy is enabled without oidc-issuer-url. Set it to the issuer of your identity provider, such as https://example.okta.com." -}}
{{- end -}}
{{- if and (not (get $oauth "client-details-from-secret")) (or (not (get $oauth "client-id")) (not (get $oauth "client-secret"))) -}}
{{- fail "OAuth2 Proxy is enabled without credentials. Set client-id and client-secret, or client-details-from-secret to the name of a Secret with these two keys." -}}
{{- end -}}
{{- if and (has (get $oauth "email-domain" | default "*") (list "*")) (regexMatch "accounts\\.google\\.com|login\\.microsoftonline\\.com/(common|organizations|consumers)" $issuer) -}}
{{- fail (printf "Anybody can have an account at %s. Set email-domain to your own domain, such as example.com." $issuer) -}}
{{- end -}}
{{- if and (eq (get $oauth "session-store-type") "redis") (not (get $oauth "redis-url")) (not (get $oauth "redis-secret")) -}}
{{- fail "session-store-type=redis needs a Redis of your own: set redis-url or redis-secret. This chart does not run one. The default, cookie, needs none." -}}
{{- end -}}
{{- end -}}
{{- if and (not $v.gateway.enabled) (not $v.trustedProxies) (not $v.config.TRUSTED_PROXIES) -}}
{{- fail "With gateway.enabled=false your own proxy asks SkyAuth. Set trustedProxies to its addresses, or SkyAuth refuses every question." -}}
{{- end -}}
{{- if and (not $v.gateway.enabled) $v.networkPolicy.enabled (not $v.networkPolicy.proxies) -}}
{{- fail "With gateway.enabled=false your own proxy asks SkyAuth and forwards to the API. Set networkPolicy.proxies to its pods, or the NetworkPolicy refuses it." -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.ingress.host) -}}
{{- fail "ingress.enabled needs ingress.host, such as sky.example.com." -}}
{{- end -}}
{{- if and $v.ingress.enabled (not $v.gateway.enabled) -}}
{{- fail "The Ingress leads to the gateway. Set gateway.enabled=true, or ingress.enabled=false." -}}
{{- end -}}
{{- if $v.httpRoute.enabled -}}
{{- if or (not $v.httpRoute.parentRefs) (not $v.httpRoute.hostnames) -}}
{{- fail "httpRoute.enabled needs httpRoute.parentRefs (your Gateway) and httpRoute.hostnames." -}}
{{- end -}}
{{- if and (not $v.gateway.enabled) (not $v.httpRoute.externalAuth.enabled) -}}
{{- fail "Without httpRoute.externalAuth, the HTTPRoute leads to the gateway. Set gateway.enabled=true." -}}
{{- end -}}
{{- end -}}
{{- if $v.httpRoute.externalAuth.enabled -}}
{{- if not $v.httpRoute.enabled -}}
{{- fail "httpRoute.externalAuth is a filter of the HTTPRoute. Set httpRoute.enabled=true." -}}
{{- end -}}
{{- if $v.upstream.skypilotRelease -}}
{{- fail "httpRoute.externalAuth cannot protect a SkyPilot API server: it treats a request without an identity as an administrator's. Use the gateway of this chart." -}}
{{- end -}}
{{- if $v.gateway.enabled -}}
{{- fail "With httpRoute.externalAuth your Gateway asks SkyAuth and forwards to the API. Set gateway.enabled=false." -}}
{{- end -}}
{{- if not $v.httpRoute.externalAuth.backendRef -}}
{{- fail "httpRoute.externalAuth needs httpRoute.externalAuth.backendRef, the Service of your API, such as {name: jobs, port: 8080}." -}}
{{- end -}}
{{- end -}}
{{- end }}
