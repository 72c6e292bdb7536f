"""The version of firesteel; the build reads it too."""

from __future__ import annotations

VERSION = "0.1.0"
"""Semantic version."""
FRAMEWORK = f"firesteel {VERSION.split('.', maxsplit=1)[0]}"
"""The major version, which a plan pins."""
