"""The manifest: text in YAML files, read and checked, becomes the jobs that people want."""

from reconciler.manifest.model import DeclaredState, Head, Manifest

__all__ = ["DeclaredState", "Head", "Manifest"]
