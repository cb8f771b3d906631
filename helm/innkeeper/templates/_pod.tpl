{{/* Parts of pods. */}}

{{/* What the Pod Security standard "restricted" asks of a container, and a read-only root besides. */}}
{{- define "innkeeper.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* fsGroup: mounted Secrets and volumes belong to the group, so that a user who is not root reads them. */}}
{{- define "innkeeper.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Where pods run: (root, component). */}}
{{- define "innkeeper.placement" -}}
{{- $values := .root.Values -}}
{{- with $values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Replicas apart, on other nodes and in other zones, where there are any: (root, component, hash). */}}
{{- define "innkeeper.spread" -}}
topologySpreadConstraints:
{{- if .root.Values.topologySpreadConstraints }}
  {{- toYaml .root.Values.topologySpreadConstraints | nindent 2 }}
{{- else }}
  {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "innkeeper.selector" $ | nindent 8 }}
    {{- with $.hash }}
    matchLabelKeys: [{{ . }}]
    {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Settings of every process: (root). */}}
{{- define "innkeeper.env.common" -}}
- {name: INN_LOG_FORMAT, value: {{ .Values.logFormat | quote }}}
- {name: INN_LOG_LEVEL, value: {{ .Values.logLevel | quote }}}
- {name: INN_WORKSPACES_DOMAIN, value: {{ include "innkeeper.workspacesDomain" . | quote }}}
- {name: INN_WORKSPACES_SCHEME, value: {{ include "innkeeper.scheme" . | quote }}}
{{- with include "innkeeper.port" . }}
- {name: INN_WORKSPACES_PORT, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{/* Settings of hub and admin API: (root). */}}
{{- define "innkeeper.env.public" -}}
- {name: INN_HUB_URL, value: {{ include "innkeeper.url" (dict "root" . "host" (include "innkeeper.hubHost" .)) | quote }}}
- {name: INN_ADMIN_URL, value: {{ include "innkeeper.url" (dict "root" . "host" (include "innkeeper.adminHost" .)) | quote }}}
{{- end }}

{{/* Settings of what opens the house (hub, admin, worker): state database, keys. (root, connections) */}}
{{- define "innkeeper.env.house" -}}
- {name: INN_STATE_DSN_FILE, value: /etc/innkeeper/state/dsn}
- {name: INN_STATE_CONNECTIONS, value: {{ .connections | quote }}}
- {name: INN_KEY_FILE, value: /etc/innkeeper/keys/keys}
- {name: INN_RUNTIME_FOLDER, value: /var/lib/innkeeper/workspaces}
- {name: INN_MAIL_FOLDER, value: /var/lib/innkeeper/outbox}
- {name: INN_MAIL_SENDER, value: {{ .root.Values.mail.sender | quote }}}
- {name: INN_OPERATOR_MAIL, value: {{ .root.Values.mail.operator | quote }}}
{{- end }}

{{/* A private authority that issuer and mail relay are verified by (hub, worker): (root). */}}
{{- define "innkeeper.env.trust" -}}
{{- if .Values.trustedCA.existingSecret -}}
- {name: INN_TRUSTED_CA_FILE, value: /etc/innkeeper/trust/ca.crt}
{{- end }}
{{- end }}

{{- define "innkeeper.mounts.trust" -}}
{{- if .Values.trustedCA.existingSecret -}}
- {name: trust, mountPath: /etc/innkeeper/trust, readOnly: true}
{{- end }}
{{- end }}

{{- define "innkeeper.volumes.trust" -}}
{{- if .Values.trustedCA.existingSecret -}}
- name: trust
  secret:
    secretName: {{ .Values.trustedCA.existingSecret }}
    defaultMode: 0440
    items: [{key: {{ .Values.trustedCA.key }}, path: ca.crt}]
{{- end }}
{{- end }}

{{/* Settings of what speaks to Kubernetes (admin, worker): (root). */}}
{{- define "innkeeper.env.kubernetes" -}}
- {name: INN_SYSTEM_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
{{- with .Values.fencesNamespace }}
- {name: INN_FENCES_NAMESPACE, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{/* Where those settings lead: (root). */}}
{{- define "innkeeper.mounts.house" -}}
- {name: state, mountPath: /etc/innkeeper/state, readOnly: true}
- {name: keys, mountPath: /etc/innkeeper/keys, readOnly: true}
- {name: work, mountPath: /var/lib/innkeeper}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "innkeeper.volumes.house" -}}
{{ include "innkeeper.volumes.work" . }}
- name: state
  secret:
    secretName: {{ include "innkeeper.stateSecret" . }}
    defaultMode: 0440
    items: {{- include "innkeeper.stateItems" (dict "root" . "files" (dict "dsn" .Values.state.keys.app)) | nindent 6 }}
- name: keys
  secret:
    secretName: {{ include "innkeeper.keysSecret" . }}
    defaultMode: 0440
    items: [{key: {{ .Values.encryption.key }}, path: keys}]
{{- end }}

{{- define "innkeeper.volumes.work" -}}
- {name: work, emptyDir: {sizeLimit: 256Mi}}
- {name: tmp, emptyDir: {sizeLimit: 256Mi}}
{{- end }}

{{/* Administrators' connection strings of pool instances: (root). */}}
{{- define "innkeeper.mounts.instances" -}}
{{- if .Values.evaluation.enabled }}
- {name: instance-pool, mountPath: /etc/innkeeper/instances/pool, readOnly: true}
{{- end }}
{{- range .Values.instances }}
- {name: instance-{{ .name }}, mountPath: /etc/innkeeper/instances/{{ .name }}, readOnly: true}
{{- end }}
{{- end }}

{{- define "innkeeper.volumes.instances" -}}
{{- if .Values.evaluation.enabled }}
- name: instance-pool
  secret:
    secretName: {{ include "innkeeper.fullname" . }}-pool
    defaultMode: 0440
    items: [{key: dsn, path: dsn}]
{{- end }}
{{- range .Values.instances }}
- name: instance-{{ .name }}
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items:
      - {key: {{ .key | default "dsn" }}, path: dsn}
      {{- with .caKey }}
      - {key: {{ . }}, path: ca.crt}
      {{- end }}
{{- end }}
{{- end }}

{{/* The mail relay: (root). */}}
{{- define "innkeeper.env.mail" -}}
{{- if .Values.evaluation.enabled }}
- {name: INN_MAIL_RELAY, value: "smtp://{{ include "innkeeper.service" (dict "root" . "component" "outbox") }}:2525"}
{{- else }}
- {name: INN_MAIL_RELAY_FILE, value: /etc/innkeeper/mail/url}
{{- end }}
{{- end }}

{{/* Waits until the schema is there; a pod without it would only fail. (root) */}}
{{- define "innkeeper.waitForSchema" -}}
- name: wait-for-schema
  image: {{ include "innkeeper.image" (dict "root" . "image" .Values.image) }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  args: [db, wait]
  env:
    - {name: INN_STATE_DSN_FILE, value: /etc/innkeeper/state/dsn}
  securityContext: {{- include "innkeeper.containerSecurity" . | nindent 4 }}
  resources: {requests: {cpu: 10m, memory: 64Mi}, limits: {memory: 256Mi}}
  volumeMounts:
    - {name: state, mountPath: /etc/innkeeper/state, readOnly: true}
    - {name: tmp, mountPath: /tmp}
{{- end }}

{{/* Probes over HTTP. */}}
{{- define "innkeeper.httpProbes" -}}
startupProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 2, failureThreshold: 60}
livenessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6}
readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 5, timeoutSeconds: 5}
{{- end }}
