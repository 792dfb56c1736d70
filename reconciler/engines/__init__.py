"""What runs jobs: the port in `base`, and the engines behind it."""
