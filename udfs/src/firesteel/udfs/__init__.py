"""Scoring of any Spark DataFrame with an MLflow model: exact, bounded in memory, each row once. Usable without a spec."""

from __future__ import annotations
