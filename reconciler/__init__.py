"""Desired-state reconciliation for the lifecycle of batch jobs."""

__version__ = "0.1.0"
