{{/* A web process with its Service: (root, component, settings, env, mounts, volumes, secrets, account, metrics). */}}
{{- define "innkeeper.web" -}}
{{- $root := .root -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "innkeeper.fullname" $root }}-{{ .component }}
  labels: {{- include "innkeeper.labels" . | nindent 4 }}
spec:
  replicas: {{ .settings.replicas }}
  # One more comes before one goes: nobody waits for an upgrade.
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}
  selector:
    matchLabels: {{- include "innkeeper.selector" . | nindent 6 }}
  template:
    metadata:
      labels: {{- include "innkeeper.podLabels" . | nindent 8 }}
      annotations:
        kubectl.kubernetes.io/default-container: {{ .component }}
        {{- with include "innkeeper.secretsChecksum" (dict "root" $root "secrets" .secrets) }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with $root.Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "innkeeper.fullname" $root }}-{{ .component }}
      automountServiceAccountToken: {{ .account }}
      terminationGracePeriodSeconds: {{ .settings.terminationGracePeriodSeconds }}
      securityContext: {{- include "innkeeper.podSecurity" $root | nindent 8 }}
      {{- include "innkeeper.placement" . | nindent 6 }}
      {{- include "innkeeper.spread" (dict "root" $root "component" .component "hash" "pod-template-hash") | nindent 6 }}
      initContainers:
        {{- include "innkeeper.waitForSchema" $root | nindent 8 }}
      containers:
        - name: {{ .component }}
          image: {{ include "innkeeper.image" (dict "root" $root "image" $root.Values.image) }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          args: [serve, {{ .component }}]
          env:
            {{- include "innkeeper.env.common" $root | nindent 12 }}
            {{- include "innkeeper.env.public" $root | nindent 12 }}
            {{- include "innkeeper.env.house" (dict "root" $root "connections" .settings.stateConnections) | nindent 12 }}
            {{- with .env }}
            {{- . | nindent 12 }}
            {{- end }}
          ports:
            - {name: http, containerPort: 8000}
            {{- if .metrics }}
            - {name: metrics, containerPort: 9000}
            {{- end }}
          {{- include "innkeeper.httpProbes" $root | nindent 10 }}
          # Services stop sending before the process is told to end.
          lifecycle: {preStop: {sleep: {seconds: 5}}}
          resources: {{- toYaml .settings.resources | nindent 12 }}
          securityContext: {{- include "innkeeper.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            {{- include "innkeeper.mounts.house" $root | nindent 12 }}
            {{- with .mounts }}
            {{- . | nindent 12 }}
            {{- end }}
      volumes:
        {{- include "innkeeper.volumes.house" $root | nindent 8 }}
        {{- with .volumes }}
        {{- . | nindent 8 }}
        {{- end }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ include "innkeeper.fullname" $root }}-{{ .component }}
  labels: {{- include "innkeeper.labels" . | nindent 4 }}
spec:
  selector: {{- include "innkeeper.selector" . | nindent 4 }}
  ports:
    - {name: http, port: 8000, targetPort: http}
    {{- if .metrics }}
    - {name: metrics, port: 9000, targetPort: metrics}
    {{- end }}
{{- end }}
