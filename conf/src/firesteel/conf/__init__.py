"""Errors, settings and cluster configuration, used by all other components."""
