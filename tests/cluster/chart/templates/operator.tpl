---
# The outside of the operator: pods that kwok calls ready. What it does is done by tests/cluster/controller.py.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}-dynamo-operator-controller-manager
  labels: &labels
    app.kubernetes.io/name: dynamo-operator
    app.kubernetes.io/instance: {{ .Release.Name }}
spec:
  replicas: 1
  selector:
    matchLabels: *labels
  template:
    metadata:
      labels: *labels
      {{- if .Values.test.silent }}
      annotations:
        bed.wideep/held: "true"
      {{- end }}
    spec:
      {{- with index .Values "dynamo-operator" "imagePullSecrets" }}
      imagePullSecrets: {{ toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: manager
          image: nvcr.io/nvidia/ai-dynamo/kubernetes-operator:{{ .Chart.AppVersion }}
---
# Where the real chart writes down which NATS and etcd the operator hands on.
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-dynamo-operator-config
  labels:
    app.kubernetes.io/name: dynamo-operator
    app.kubernetes.io/instance: {{ .Release.Name }}
data:
  config.yaml: |
    infrastructure:
      {{- $operator := index .Values "dynamo-operator" }}
      {{- if or $operator.natsAddr .Values.global.nats.install }}
      natsAddress: {{ $operator.natsAddr | default (printf "nats://%s-nats:4222" .Release.Name) | quote }}
      {{- end }}
      {{- if or $operator.etcdAddr .Values.global.etcd.install }}
      etcdAddress: {{ $operator.etcdAddr | default (printf "%s-etcd:2379" .Release.Name) | quote }}
      {{- end }}
{{- with .Values.test.hook }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $.Release.Name }}-dynamo-operator-crd-apply
  annotations:
    helm.sh/hook: pre-install,pre-upgrade
    helm.sh/hook-delete-policy: hook-succeeded,before-hook-creation
  labels:
    app.kubernetes.io/name: dynamo-operator
spec:
  template:
    metadata:
      labels:
        app.kubernetes.io/name: dynamo-operator
        app.kubernetes.io/component: crd-apply
    spec:
      restartPolicy: OnFailure
      containers:
        - name: crd-apply
          image: {{ . }}
{{- end }}
