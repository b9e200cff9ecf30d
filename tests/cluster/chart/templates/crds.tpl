{{ .Files.Get (printf "files/crd-%s.yaml" .Values.test.api) }}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: dynamoworkermetadatas.nvidia.com
  annotations:
    helm.sh/resource-policy: keep
spec:
  group: nvidia.com
  scope: Namespaced
  names:
    kind: DynamoWorkerMetadata
    listKind: DynamoWorkerMetadataList
    plural: dynamoworkermetadatas
    singular: dynamoworkermetadata
  versions:
    - name: v1alpha1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          x-kubernetes-preserve-unknown-fields: true
{{- $kai := index .Values.global "kai-scheduler" }}
{{- if or $kai.enabled $kai.install }}
---
apiVersion: scheduling.run.ai/v2
kind: Queue
metadata:
  name: dynamo
  annotations:
    helm.sh/hook: post-install,post-upgrade
    helm.sh/hook-delete-policy: before-hook-creation
{{- end }}
