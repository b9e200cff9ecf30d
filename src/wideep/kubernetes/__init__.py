"""The deployment on Kubernetes: the same pools and engine commands as on hosts, as manifests."""
