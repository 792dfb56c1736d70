"""The values that every other floor uses."""
