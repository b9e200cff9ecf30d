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
