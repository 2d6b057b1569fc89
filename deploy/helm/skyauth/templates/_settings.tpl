{{/* SkyAuth's settings by their names, without secrets. `config` has precedence. */}}
{{- define "skyauth.settings" -}}
{{- $v := include "skyauth.values" . | fromYaml -}}
{{- $oauth := include "skyauth.oauth" . | fromYaml -}}
{{- $settings := dict "DATA_DIR" "/data" "LOG_FORMAT" "json" "RBAC_DEFAULT_ROLE" "first-admin" -}}
{{- $_ := set $settings "PUBLIC_URL" (include "skyauth.publicUrl" .) -}}
{{- $trusted := list -}}
{{- if $v.gateway.enabled -}}
{{- $trusted = append $trusted "127.0.0.1" -}}
{{- $_ := set $settings "AUTH_REDIRECT" (toString (or $v.gateway.pages (ne $v.upstream.skypilotRelease ""))) -}}
{{- if or $oauth $v.gateway.authProxy -}}
{{- $trusted = concat $trusted $v.gateway.authProxy $v.trustedProxies -}}
{{- end -}}
{{- else -}}
{{- $trusted = $v.trustedProxies -}}
{{- end -}}
{{- $_ := set $settings "TRUSTED_PROXIES" (join "," (uniq $trusted)) -}}
{{- $accounts := $v.apiService.enableServiceAccounts -}}
{{- if not (kindIs "invalid" $v.auth.serviceAccount.enabled) -}}
{{- $accounts = $v.auth.serviceAccount.enabled -}}
{{- end -}}
{{- $_ := set $settings "ENABLE_SERVICE_ACCOUNTS" (toString $accounts) -}}
{{- if $v.upstream.skypilotRelease -}}
{{- $_ := set $settings "SKYPILOT_URL" (include "skyauth.upstreamUrl" .) -}}
{{- if or $v.ingress.authCredentials $v.ingress.authSecret -}}
{{- $_ := set $settings "SKYPILOT_SHARED_BASIC" "true" -}}
{{- end -}}
{{- end -}}
{{- if $oauth -}}
{{- $_ := set $settings "AUTH_USER_HEADER_FORMAT" "plaintext" -}}
{{- $_ := set $settings "AUTH_USER_HEADER" "X-Forwarded-Email" -}}
{{- end -}}
{{- range $name, $value := $v.config -}}
{{- $_ := set $settings $name (include "skyauth.scalar" $value) -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end }}

{{/* The environment of every container that runs SkyAuth. */}}
{{- define "skyauth.env" -}}
{{- $v := include "skyauth.values" . | fromYaml -}}
{{- $database := include "skyauth.database" . -}}
{{- $fullname := include "skyauth.fullname" . -}}
{{- range $name, $value := include "skyauth.settings" . | fromYaml }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
- name: SECRET_KEY
  valueFrom: {secretKeyRef: {name: {{ include "skyauth.keys" . | quote }}, key: SECRET_KEY}}
- name: SECRET_KEY_FALLBACKS
  valueFrom: {secretKeyRef: {name: {{ include "skyauth.keys" . | quote }}, key: SECRET_KEY_FALLBACKS, optional: true}}
- name: METRICS_TOKEN
  valueFrom: {secretKeyRef: {name: {{ include "skyauth.keys" . | quote }}, key: METRICS_TOKEN, optional: true}}
{{- if eq $database "external" }}
- name: DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ $v.database.existingSecret | default (printf "%s-database" $fullname) | quote }}, key: {{ $v.database.key | quote }}}}
{{- else if eq $database "postgresql" }}
- name: POSTGRES_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "skyauth.keys" . | quote }}, key: postgres-password}}
- name: DATABASE_URL
  value: postgres://skyauth:$(POSTGRES_PASSWORD)@{{ $fullname }}-postgresql:5432/skyauth
{{- end }}
{{- if or $v.ingress.authCredentials $v.ingress.authSecret }}
- name: AUTH_STRING
  valueFrom: {secretKeyRef: {name: {{ $v.ingress.authSecret | default (printf "%s-auth" $fullname) | quote }}, key: auth}}
{{- end }}
{{- with $v.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What makes the pods start anew when it changes. */}}
{{- define "skyauth.checksums" -}}
checksum/gateway: {{ include "skyauth.caddyfile" . | sha256sum }}
checksum/secrets: {{ include "skyauth.secrets" . | sha256sum }}
{{- end }}

{{/* The shipped file of the reverse proxy, with the commented lines that the values ask for. */}}
{{- define "skyauth.caddyfile" -}}
{{- $v := include "skyauth.values" . | fromYaml -}}
{{- $oauth := include "skyauth.oauth" . | fromYaml -}}
{{- $file := .Files.Get (ternary "files/skypilot.Caddyfile" "files/api.Caddyfile" (ne $v.upstream.skypilotRelease "")) -}}
{{- if and $v.trustedProxies (not $oauth) (not $v.gateway.authProxy) -}}
{{- $file = $file | replace "#f| " "" | replace "remote_ip 10.0.0.8" (printf "remote_ip %s" (join " " $v.trustedProxies)) -}}
{{- end -}}
{{- if not $v.upstream.skypilotRelease -}}
{{- if or $oauth $v.gateway.authProxy }}{{ $file = $file | replace "#a| " "" }}{{ end -}}
{{- if $v.gateway.pages }}{{ $file = $file | replace "#s| " "" }}{{ end -}}
{{- end -}}
{{- $file -}}
{{- end }}
