{{/* Names, addresses and what several objects share. */}}

{{- define "innkeeper.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "innkeeper.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "innkeeper.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "innkeeper.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What selects pods: (root, component). Never changes over versions. */}}
{{- define "innkeeper.selector" -}}
app.kubernetes.io/name: {{ include "innkeeper.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* Labels of every object: (root, component). */}}
{{- define "innkeeper.labels" -}}
{{ include "innkeeper.selector" . }}
app.kubernetes.io/part-of: innkeeper
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Labels of pods: (root, component). */}}
{{- define "innkeeper.podLabels" -}}
{{ include "innkeeper.selector" . }}
app.kubernetes.io/part-of: innkeeper
{{- with .root.Values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An image: (root, image). */}}
{{- define "innkeeper.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* --- addresses ------------------------------------------------------------------------------------------------- */}}

{{- define "innkeeper.domain" -}}
{{- if .Values.domain }}{{ .Values.domain }}{{ else if .Values.evaluation.enabled }}localhost{{ end -}}
{{- end }}

{{- define "innkeeper.hubHost" -}}
{{ .Values.hosts.hub | default (printf "hub.%s" (include "innkeeper.domain" .)) }}
{{- end }}

{{- define "innkeeper.adminHost" -}}
{{ .Values.hosts.admin | default (printf "admin.%s" (include "innkeeper.domain" .)) }}
{{- end }}

{{- define "innkeeper.workspacesDomain" -}}
{{ .Values.hosts.workspaces | default (printf "apps.%s" (include "innkeeper.domain" .)) }}
{{- end }}

{{- define "innkeeper.issuerHost" -}}
{{ .Values.evaluation.issuerHost | default (printf "issuer.%s" (include "innkeeper.domain" .)) }}
{{- end }}

{{- define "innkeeper.mailHost" -}}
{{ .Values.evaluation.mailHost | default (printf "mail.%s" (include "innkeeper.domain" .)) }}
{{- end }}

{{/* An evaluation on localhost is reached through a port-forward: plain http at port 8080, unless told otherwise. */}}
{{- define "innkeeper.forwarded" -}}
{{- if and .Values.evaluation.enabled (or (eq (include "innkeeper.domain" .) "localhost") (hasSuffix ".localhost" (include "innkeeper.domain" .))) }}true{{ end -}}
{{- end }}

{{- define "innkeeper.scheme" -}}
{{- if include "innkeeper.forwarded" . }}http{{ else }}{{ .Values.public.scheme }}{{ end -}}
{{- end }}

{{- define "innkeeper.port" -}}
{{- if .Values.public.port }}{{ int .Values.public.port }}{{ else if include "innkeeper.forwarded" . }}8080{{ end -}}
{{- end }}

{{/* The address of a host as browsers see it: (root, host). */}}
{{- define "innkeeper.url" -}}
{{- $port := include "innkeeper.port" .root -}}
{{ include "innkeeper.scheme" .root }}://{{ .host }}{{ with $port }}:{{ . }}{{ end }}
{{- end }}

{{/* Whether proxies are known by their address, and the Service replaces it by a node's. */}}
{{- define "innkeeper.hidesClients" -}}
{{- with .Values.gateway }}
{{- if and .trustedProxies.blocks (ne .service.type "ClusterIP") (eq .service.externalTrafficPolicy "Cluster") }}true{{ end }}
{{- end }}
{{- end }}

{{/* A Service of ours as other pods, and HAProxy's resolver, find it: (root, component). */}}
{{- define "innkeeper.service" -}}
{{ include "innkeeper.fullname" .root }}-{{ .component }}.{{ .root.Release.Namespace }}.svc.{{ .root.Values.clusterDomain }}
{{- end }}

{{/* --- secrets --------------------------------------------------------------------------------------------------- */}}

{{- define "innkeeper.stateSecret" -}}
{{ .Values.state.existingSecret | default (printf "%s-state" (include "innkeeper.fullname" .)) }}
{{- end }}

{{/* What of it is mounted: file -> key, and the certificates of its server always. (root, files) */}}
{{- define "innkeeper.stateItems" -}}
{{- range $path, $key := .files }}
- {key: {{ $key }}, path: {{ $path }}}
{{- end }}
{{- with .root.Values.state.keys.ca }}
- {key: {{ . }}, path: ca.crt}
{{- end }}
{{- end }}

{{- define "innkeeper.keysSecret" -}}
{{ .Values.encryption.existingSecret | default (printf "%s-keys" (include "innkeeper.fullname" .)) }}
{{- end }}

{{- define "innkeeper.oidcSecret" -}}
{{ .Values.oidc.existingSecret | default (printf "%s-oidc" (include "innkeeper.fullname" .)) }}
{{- end }}

{{- define "innkeeper.gatewaySecret" -}}
{{ .Values.gateway.existingSecret | default (printf "%s-gateway" (include "innkeeper.fullname" .)) }}
{{- end }}

{{/* Key of an administrator's connection string in the state Secret, empty if there is none. */}}
{{- define "innkeeper.stateAdminKey" -}}
{{- if .Values.evaluation.enabled }}adminDsn{{ else }}{{ .Values.state.keys.admin }}{{ end -}}
{{- end }}

{{/* Where what the chart makes up is kept: value -> [Secret's last name, key]. What writes and what looks up both ask here. (JSON) */}}
{{- define "innkeeper.places" -}}
{{- $places := dict }}
{{- if not .Values.gateway.existingSecret }}
  {{- $_ := set $places "probe" (list "gateway" "probeSecret") }}
{{- end }}
{{- if .Values.evaluation.enabled }}
  {{- $places = merge $places (dict "state" (list "state" "password") "owner" (list "state" "ownerPassword")
      "app" (list "state" "appPassword") "gateway" (list "state" "gatewayPassword") "pool" (list "pool" "password")
      "oidc" (list "oidc" .Values.oidc.key)) }}
  {{- if not .Values.encryption.existingSecret }}
    {{- $_ := set $places "keys" (list "keys" .Values.encryption.key) }}
  {{- end }}
{{- end }}
{{- toJson $places }}
{{- end }}

{{/* What the chart makes up itself. Made once in a rendering, and kept from an earlier release: (JSON). */}}
{{- define "innkeeper.generated" -}}
{{- if not (hasKey .Values "generated") }}
  {{- $name := include "innkeeper.fullname" . }}
  {{- $made := dict "probe" (randAlphaNum 48) "owner" (randAlphaNum 32) "app" (randAlphaNum 32) "gateway" (randAlphaNum 32)
      "state" (randAlphaNum 32) "pool" (randAlphaNum 32) "oidc" (randAlphaNum 48)
      "keys" (printf "%s %s\n" (randAlphaNum 32 | sha256sum | trunc 8) (randBytes 32)) }}
  {{- range $what, $place := include "innkeeper.places" . | fromJson }}
    {{- $secret := printf "%s-%s" $name (first $place) }}
    {{- $kept := lookup "v1" "Secret" $.Release.Namespace $secret | default dict }}
    {{- with dig "data" (last $place) "" $kept }}
      {{- $_ := set $made $what (b64dec .) }}
    {{- else }}
      {{- if and (eq $what "keys") $kept.data }}
        {{- fail (printf "the Secret %s has no key %s: set encryption.key to the one it has (%s); with another key nothing that was sealed would open" $secret (last $place) (keys $kept.data | sortAlpha | join ", ")) }}
      {{- end }}
    {{- end }}
  {{- end }}
  {{- $_ := set .Values "generated" $made }}
{{- end }}
{{- toJson .Values.generated }}
{{- end }}

{{/* An annotation that changes when what a pod mounts of an evaluation's Secrets does, so that the pod is made anew; nothing in
production, whose Secrets are not the chart's. A gateway's probe secret is no part of it: HAProxy and its agent share a pod. (root, secrets) */}}
{{- define "innkeeper.secretsChecksum" -}}
{{- if .root.Values.evaluation.enabled }}
  {{- $made := include "innkeeper.generated" .root | fromJson }}
  {{- $mounted := dict }}
  {{- range $what, $place := include "innkeeper.places" .root | fromJson }}
    {{- if has (first $place) $.secrets }}
      {{- $_ := set $mounted $what (get $made $what) }}
    {{- end }}
  {{- end -}}
checksum/secrets: {{ toJson $mounted | sha256sum }}
{{- end }}
{{- end }}

{{/* Peers of a network policy, pods of this release: (root, components). */}}
{{- define "innkeeper.from" -}}
- podSelector:
    matchLabels:
      app.kubernetes.io/name: {{ include "innkeeper.name" .root }}
      app.kubernetes.io/instance: {{ .root.Release.Name }}
    matchExpressions:
      - {key: app.kubernetes.io/component, operator: In, values: [{{ join ", " .components }}]}
{{- end }}
