"""The version of firesteel, read by the build as well."""

from __future__ import annotations

VERSION = "0.1.0"
"""Semantic version; its major part is pinned in every plan hash."""
