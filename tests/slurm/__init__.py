"""A real cluster of Slurm for tests."""
