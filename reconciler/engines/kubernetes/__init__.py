"""The engine `kubernetes`: Jobs of a Kubernetes cluster, one for each run."""
