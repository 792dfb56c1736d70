"""What runs jobs: the port in `port`, and the engines behind it."""
