"""The version of firesteel, read by the build as well."""

from __future__ import annotations

VERSION = "0.1.0"
"""Semantic version."""
FRAMEWORK = f"firesteel {VERSION.split('.', maxsplit=1)[0]}"
"""The major version: what a plan pins, and what it is run by."""
