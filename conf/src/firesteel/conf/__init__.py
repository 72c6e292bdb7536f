"""Errors, settings and cluster configuration: the floor that everything else stands on."""
