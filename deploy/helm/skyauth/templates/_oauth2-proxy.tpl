{{/* OAuth2 Proxy, beside the gateway in the same pod: the gateway accepts the identity header only from 127.0.0.1. */}}
{{- define "skyauth.oauth2Proxy" -}}
{{- $v := include "skyauth.values" . | fromYaml -}}
{{- $oauth := include "skyauth.oauth" . | fromYaml -}}
{{- $public := include "skyauth.publicUrl" . -}}
{{- $credentials := get $oauth "client-details-from-secret" | default (printf "%s-oauth2-proxy" (include "skyauth.fullname" .)) -}}
{{- $pages := ternary "dashboard|token|auth/authorize|sign-in|skyauth|admin" "sign-in|skyauth" (ne $v.upstream.skypilotRelease "") -}}
- name: oauth2-proxy
  image: {{ $oauth.image | quote }}
  imagePullPolicy: {{ $v.image.pullPolicy }}
  args:
    - {{ printf "--http-address=%s:4180" (ternary "[::]" $v.bindAddress (eq $v.bindAddress "::")) | quote }}
    - --upstream=http://127.0.0.1:8080/
    # SkyPilot's /api/get sends nothing until its request is done, and streams must not be held back.
    - --upstream-timeout=24h
    - --flush-interval=-1s
    - --provider=oidc
    - {{ printf "--oidc-issuer-url=%s" (get $oauth "oidc-issuer-url") | quote }}
    - {{ printf "--redirect-url=%s/oauth2/callback" $public | quote }}
    - --code-challenge-method=S256
    - --skip-provider-button=true
    {{- range splitList "," (get $oauth "email-domain" | default "*" | nospace) }}
    - {{ printf "--email-domain=%s" . | quote }}
    {{- end }}
    - --cookie-secure={{ hasPrefix "https://" $public }}
    - --cookie-httponly=true
    - --cookie-samesite=lax
    - --cookie-expire={{ get $oauth "cookie-expire" }}
    {{- with get $oauth "cookie-refresh" }}
    - --cookie-refresh={{ . }}
    {{- end }}
    - --session-store-type={{ get $oauth "session-store-type" }}
    # X-Forwarded-Email and X-Forwarded-Groups. What a client sends in them is removed.
    - --pass-user-headers=true
    - --skip-auth-strip-headers=true
    - --pass-host-header=true
    # Only these pages need a session. SkyAuth decides on all other requests, such as those with a token.
    - {{ printf "--skip-auth-route=!=^/(%s)%s(/|$)" $pages (ternary "?" "" (ne $v.upstream.skypilotRelease "")) | quote }}
    {{- if $v.trustedProxies }}
    - --reverse-proxy=true
    {{- range $v.trustedProxies }}
    - {{ printf "--trusted-proxy-ip=%s" . | quote }}
    {{- end }}
    {{- end }}
    {{- range $oauth.extraArgs }}
    - {{ . | quote }}
    {{- end }}
  env:
    - name: OAUTH2_PROXY_CLIENT_ID
      valueFrom: {secretKeyRef: {name: {{ $credentials | quote }}, key: client-id}}
    - name: OAUTH2_PROXY_CLIENT_SECRET
      valueFrom: {secretKeyRef: {name: {{ $credentials | quote }}, key: client-secret}}
    - name: OAUTH2_PROXY_COOKIE_SECRET
      valueFrom: {secretKeyRef: {name: {{ include "skyauth.keys" . | quote }}, key: cookie-secret}}
    {{- if eq (get $oauth "session-store-type") "redis" }}
    - name: OAUTH2_PROXY_REDIS_CONNECTION_URL
      {{- if get $oauth "redis-secret" }}
      valueFrom: {secretKeyRef: {name: {{ get $oauth "redis-secret" | quote }}, key: redis_url}}
      {{- else }}
      value: {{ get $oauth "redis-url" | quote }}
      {{- end }}
    {{- end }}
  ports:
    - {name: oauth2-proxy, containerPort: 4180}
  startupProbe:
    httpGet: {path: /ping, port: oauth2-proxy}
    periodSeconds: 2
    failureThreshold: 60
  livenessProbe:
    httpGet: {path: /ping, port: oauth2-proxy}
    timeoutSeconds: 3
  readinessProbe:
    httpGet: {path: /ready, port: oauth2-proxy}
    periodSeconds: 5
    timeoutSeconds: 3
  lifecycle:
    preStop: {sleep: {seconds: {{ $v.drainSeconds }}}}
  securityContext: {{- include "skyauth.containerSecurity" . | nindent 4 }}
  resources: {{- toYaml $oauth.resources | nindent 4 }}
{{- end }}
