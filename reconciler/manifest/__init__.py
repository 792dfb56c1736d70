"""The manifest: YAML files are read, checked and turned into the jobs that people want."""

from reconciler.manifest.model import DeclaredState, Head, Manifest

__all__ = ["DeclaredState", "Head", "Manifest"]
