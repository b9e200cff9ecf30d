{{ .Files.Get (printf "files/crd-%s.yaml" .Values.test.api) }}
{{- range list
  (dict "on" .Values.global.grove.enabled "plural" "podcliquesets" "kind" "PodCliqueSet" "group" "grove.io" "version" "v1alpha1")
  (dict "on" true "plural" "dynamoworkermetadatas" "kind" "DynamoWorkerMetadata" "group" "nvidia.com" "version" "v1alpha1")
}}
{{- if .on }}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: {{ .plural }}.{{ .group }}
  annotations:
    helm.sh/resource-policy: keep
spec:
  group: {{ .group }}
  scope: Namespaced
  names:
    kind: {{ .kind }}
    listKind: {{ .kind }}List
    plural: {{ .plural }}
    singular: {{ lower .kind }}
  versions:
    - name: {{ .version }}
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          x-kubernetes-preserve-unknown-fields: true
{{- end }}
{{- end }}
