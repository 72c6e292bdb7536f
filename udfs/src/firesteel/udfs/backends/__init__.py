"""Inference backends: the MLflow pyfunc as the reference, and faster backends that must agree with it."""

from __future__ import annotations
