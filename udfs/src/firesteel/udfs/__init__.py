"""Score a Spark DataFrame with an MLflow model: exact values, bounded memory, each row once. Does not need a spec."""

from __future__ import annotations
