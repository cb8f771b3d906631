{{/* What `inn db setup` is told, as JSON in its environment: a hook before an upgrade must not read objects that only
the upgrade brings. (root) */}}
{{- define "innkeeper.setup" -}}
{{- $instances := list }}
{{- if .Values.evaluation.enabled }}
{{- $instances = append $instances (dict "name" "pool" "host" (include "innkeeper.service" (dict "root" . "component" "pool")) "port" 5432
    "admin_secret" "file:/etc/innkeeper/instances/pool/dsn"
    "database_capacity" (int .Values.evaluation.databases) "connection_capacity" (int .Values.evaluation.connections)
    "ssl_mode" "disable") }}
{{- end }}
{{- range .Values.instances }}
{{- $instance := dict "name" .name "host" .host "port" (int (.port | default 5432)) "admin_secret" (printf "file:/etc/innkeeper/instances/%s/dsn" .name) }}
{{- with .databases }}{{ $_ := set $instance "database_capacity" (int .) }}{{ end }}
{{- with .connections }}{{ $_ := set $instance "connection_capacity" (int .) }}{{ end }}
{{- with .sslMode }}{{ $_ := set $instance "ssl_mode" . }}{{ end }}
{{- $instances = append $instances $instance }}
{{- end }}
{{- $setup := dict "movable" (and .Values.evaluation.enabled .Values.evaluation.movableClock) "instances" $instances "apps" .Values.apps }}
{{- if and .Values.evaluation.enabled .Values.evaluation.sampleApp }}
{{- $_ := set $setup "sample_image" .Values.evaluation.sampleImage }}
{{- end }}
{{- if .Values.cluster.register }}
{{- $_ := set $setup "cluster" (dict "name" .Values.cluster.name "capacity" (int .Values.cluster.capacity) "dns_peers" .Values.cluster.dnsPeers) }}
{{- end }}
{{- toJson $setup }}
{{- end }}

{{/* The Job that makes the state database and everything registered in it: (root, name, annotations). */}}
{{- define "innkeeper.setupJob" -}}
{{- $root := .root -}}
{{- $place := dict "root" $root "component" "setup" -}}
{{- $keys := $root.Values.state.keys -}}
{{- $files := dict "dsn" $keys.app "owner" $keys.owner "gateway" $keys.gateway -}}
{{- with include "innkeeper.stateAdminKey" $root }}{{ $_ := set $files "admin" . }}{{ end -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "innkeeper.fullname" $root }}-{{ .name }}
  labels: {{- include "innkeeper.labels" $place | nindent 4 }}
  {{- with .annotations }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  backoffLimit: 6
  activeDeadlineSeconds: {{ $root.Values.migrations.timeoutSeconds }}
  template:
    metadata:
      labels: {{- include "innkeeper.podLabels" $place | nindent 8 }}
    spec:
      restartPolicy: Never
      automountServiceAccountToken: false
      securityContext: {{- include "innkeeper.podSecurity" $root | nindent 8 }}
      {{- include "innkeeper.placement" $place | nindent 6 }}
      containers:
        - name: setup
          image: {{ include "innkeeper.image" (dict "root" $root "image" $root.Values.image) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: [db, setup]
          env:
            {{- include "innkeeper.env.common" $root | nindent 12 }}
            - {name: INN_STATE_DSN_FILE, value: /etc/innkeeper/state/dsn}
            - {name: INN_STATE_OWNER_DSN_FILE, value: /etc/innkeeper/state/owner}
            - {name: INN_GATEWAY_DSN_FILE, value: /etc/innkeeper/state/gateway}
            {{- if $files.admin }}
            - {name: INN_STATE_ADMIN_DSN_FILE, value: /etc/innkeeper/state/admin}
            {{- end }}
            - name: INN_SETUP
              value: {{ include "innkeeper.setup" $root | quote }}
          resources: {{- toYaml $root.Values.migrations.resources | nindent 12 }}
          securityContext: {{- include "innkeeper.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            - {name: state, mountPath: /etc/innkeeper/state, readOnly: true}
            - {name: tmp, mountPath: /tmp}
      volumes:
        - name: state
          secret:
            secretName: {{ include "innkeeper.stateSecret" $root }}
            defaultMode: 0440
            items: {{- include "innkeeper.stateItems" (dict "root" $root "files" $files) | nindent 14 }}
        - {name: tmp, emptyDir: {sizeLimit: 256Mi}}
{{- end }}
