{{- define "skyauth.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "skyauth.podSecurity" -}}
{{- $v := include "skyauth.values" . | fromYaml -}}
runAsNonRoot: true
{{- range $name, $value := $v.podSecurityContext }}
{{- if not (kindIs "invalid" $value) }}
{{ $name }}: {{ include "skyauth.scalar" $value }}
{{- end }}
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* What all pods of this release have, also those of jobs. */}}
{{- define "skyauth.pod" -}}
{{- $v := include "skyauth.values" . | fromYaml -}}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $v.serviceAccountName }}
serviceAccountName: {{ . | quote }}
{{- end }}
{{- with $v.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  {{- include "skyauth.podSecurity" . | nindent 2 }}
{{- with $v.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $v.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $v.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{/* The one volume that SkyAuth can write to, and volumes of the user. */}}
{{- define "skyauth.volumes" -}}
{{- $v := include "skyauth.values" . | fromYaml -}}
- name: data
  {{- if eq (include "skyauth.database" .) "sqlite" }}
  persistentVolumeClaim: {claimName: {{ $v.persistence.existingClaim | default (include "skyauth.fullname" .) | quote }}}
  {{- else }}
  emptyDir: {sizeLimit: 1Gi}
  {{- end }}
{{- with $v.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The password of the first admin, for the container `bootstrap`. The Secret can be deleted once the admin exists. */}}
{{- define "skyauth.bootstrapVolume" -}}
{{- $v := include "skyauth.values" . | fromYaml -}}
{{- with $v.bootstrap.passwordSecret -}}
- name: bootstrap
  secret: {secretName: {{ . | quote }}, defaultMode: 0440, optional: true}
{{- end -}}
{{- end }}

{{- define "skyauth.mounts" -}}
{{- $v := include "skyauth.values" . | fromYaml -}}
- {name: data, mountPath: /data}
{{- with $v.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* A container that runs a command of SkyAuth. Takes the root context, the name and the arguments. */}}
{{- define "skyauth.command" -}}
{{- $v := include "skyauth.values" .root | fromYaml -}}
- name: {{ .name }}
  image: {{ include "skyauth.image" .root | quote }}
  imagePullPolicy: {{ $v.image.pullPolicy }}
  args: {{ toJson .args }}
  env: {{- include "skyauth.env" .root | nindent 4 }}
  securityContext: {{- include "skyauth.containerSecurity" .root | nindent 4 }}
  resources: {{- toYaml $v.resources | nindent 4 }}
  volumeMounts: {{- include "skyauth.mounts" .root | nindent 4 }}
    {{- if and (eq .name "bootstrap") $v.bootstrap.passwordSecret }}
    - {name: bootstrap, mountPath: /run/bootstrap, readOnly: true}
    {{- end }}
{{- end }}

{{- define "skyauth.bootstrap" -}}
{{- $v := include "skyauth.values" . | fromYaml -}}
{{- $pack := $v.bootstrap.pack | default (ternary "skypilot" "read-write" (ne $v.upstream.skypilotRelease "")) -}}
{{- $args := list "bootstrap" "--wait" "300" "--pack" $pack -}}
{{- if or $v.bootstrap.admin (not (include "skyauth.oauth" .)) -}}
{{- $args = concat $args (list "--admin" ($v.bootstrap.admin | default "admin")) -}}
{{- if $v.bootstrap.passwordSecret -}}
{{- $args = concat $args (list "--password-file" (printf "/run/bootstrap/%s" $v.bootstrap.passwordKey)) -}}
{{- end -}}
{{- else -}}
{{- $args = append $args "--no-admin" -}}
{{- end -}}
{{- include "skyauth.command" (dict "root" . "name" "bootstrap" "args" $args) -}}
{{- end }}
