"""A simulated service: a real HTTP server on loopback that speaks the jobs API."""
