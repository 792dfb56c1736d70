"""A real API server of Kubernetes for tests, and a stand-in for its nodes."""
