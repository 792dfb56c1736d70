"""A real head of Ray for tests."""
