{{/*
The values with every default, also after `helm upgrade --reuse-values`, which knows only those of an earlier chart.
Each template starts with it: $v := include "skyauth.values" . | fromYaml
*/}}
{{- define "skyauth.values" -}}
{{- /* Computed once, because many templates need it: .Values is the same map in all of them. */ -}}
{{- if not (hasKey .Values "filled") -}}
{{- $defaults := .Files.Get "files/defaults.yaml" | fromYaml -}}
{{- $_ := set $defaults.auth "oauth" (merge (dict "enabled" false) (index $defaults.ingress "oauth2-proxy")) -}}
{{- $_ := set .Values "filled" (include "skyauth.fill" (dict "defaults" $defaults "given" .Values)) -}}
{{- end -}}
{{- .Values.filled -}}
{{- end }}

{{/* Maps are filled up key by key, and everything else is taken as it was given. */}}
{{- define "skyauth.fill" -}}
{{- $given := .given -}}
{{- $filled := dict -}}
{{- range $key, $default := .defaults -}}
{{- $value := get $given $key -}}
{{- if or (not (hasKey $given $key)) (kindIs "invalid" $value) -}}
{{- $_ := set $filled $key $default -}}
{{- else if and (kindIs "map" $default) (kindIs "map" $value) -}}
{{- $_ := set $filled $key (include "skyauth.fill" (dict "defaults" $default "given" $value) | fromYaml) -}}
{{- else -}}
{{- $_ := set $filled $key $value -}}
{{- end -}}
{{- end -}}
{{- range $key, $value := $given -}}
{{- if not (hasKey $filled $key) -}}
{{- $_ := set $filled $key $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $filled -}}
{{- end }}

{{/* A number as it was written, and not as 1e+06. */}}
{{- define "skyauth.scalar" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ printf "%.0f" . }}{{- else -}}{{ toString . }}{{- end -}}
{{- end }}

{{- define "skyauth.fullname" -}}
{{- if contains "skyauth" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-skyauth" (.Release.Name | trunc 32 | trimSuffix "-") -}}
{{- end -}}
{{- end }}

{{/* The labels by which Services and NetworkPolicies find the pods. They never change. */}}
{{- define "skyauth.selector" -}}
app.kubernetes.io/name: skyauth
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "skyauth.labels" -}}
{{ include "skyauth.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* The values of OAuth2 Proxy, from the older or the newer names. Empty if it is off. */}}
{{- define "skyauth.oauth" -}}
{{- $v := include "skyauth.values" . | fromYaml -}}
{{- if $v.auth.oauth.enabled -}}
{{- toYaml $v.auth.oauth -}}
{{- else if (index $v.ingress "oauth2-proxy").enabled -}}
{{- toYaml (index $v.ingress "oauth2-proxy") -}}
{{- end -}}
{{- end }}

{{/* "sqlite", "postgresql" (in this release) or "external". */}}
{{- define "skyauth.database" -}}
{{- $v := include "skyauth.values" . | fromYaml -}}
{{- if or $v.database.url $v.database.existingSecret -}}external
{{- else if $v.postgresql.enabled -}}postgresql
{{- else -}}sqlite
{{- end -}}
{{- end }}

{{- define "skyauth.upstreamUrl" -}}
{{- $v := include "skyauth.values" . | fromYaml -}}
{{- if $v.upstream.url -}}
{{- $v.upstream.url | trimSuffix "/" -}}
{{- else if $v.upstream.skypilotRelease -}}
{{- printf "http://%s-api-service" $v.upstream.skypilotRelease -}}
{{- with $v.upstream.namespace }}.{{ . }}{{ end -}}
{{- ":80" -}}
{{- end -}}
{{- end }}

{{- define "skyauth.upstreamLabels" -}}
{{- $v := include "skyauth.values" . | fromYaml -}}
{{- if $v.upstream.podSelector -}}
{{- toYaml $v.upstream.podSelector -}}
{{- else if $v.upstream.skypilotRelease -}}
app: {{ $v.upstream.skypilotRelease }}-api
{{- end -}}
{{- end }}

{{/* The origin where users reach the API and SkyAuth. */}}
{{- define "skyauth.publicUrl" -}}
{{- $v := include "skyauth.values" . | fromYaml -}}
{{- $oauth := include "skyauth.oauth" . | fromYaml -}}
{{- if $v.config.PUBLIC_URL -}}
{{- $v.config.PUBLIC_URL -}}
{{- else if $v.publicUrl -}}
{{- $v.publicUrl | trimSuffix "/" -}}
{{- else if and $v.ingress.enabled $v.ingress.host -}}
{{- ternary "https" "http" (or (ne $v.ingress.tlsSecret "") (get $oauth "use-https" | default false)) -}}://{{ $v.ingress.host }}
{{- else if and $v.httpRoute.enabled $v.httpRoute.hostnames -}}
https://{{ first $v.httpRoute.hostnames }}
{{- else -}}
http://127.0.0.1:8080
{{- end -}}
{{- end }}

{{- define "skyauth.image" -}}
{{- $v := include "skyauth.values" . | fromYaml -}}
{{- if $v.image.digest -}}
{{ $v.image.repository }}@{{ $v.image.digest }}
{{- else -}}
{{ $v.image.repository }}:{{ $v.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* The Secret with SECRET_KEY and cookie-secret. */}}
{{- define "skyauth.keys" -}}
{{- $v := include "skyauth.values" . | fromYaml -}}
{{- $v.existingSecret | default (printf "%s-keys" (include "skyauth.fullname" .)) -}}
{{- end }}
