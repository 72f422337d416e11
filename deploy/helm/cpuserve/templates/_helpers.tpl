{{- define "cpuserve.name" -}}
{{- if contains "cpuserve" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-cpuserve{{ end -}}
{{- end }}

{{- define "cpuserve.selector" -}}
app.kubernetes.io/name: cpuserve
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "cpuserve.labels" -}}
{{ include "cpuserve.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "cpuserve.resources" -}}
cpu: {{ .Values.cpu | quote }}
memory: {{ .Values.memory | quote }}
{{- end }}

{{- define "cpuserve.volume" -}}
{{- if . }}persistentVolumeClaim: {claimName: {{ . }}}{{ else }}emptyDir: {}{{ end -}}
{{- end }}
