"""The only folder that asks a Kubernetes API server."""
