"""Resolve models in MLflow and record runs there."""

from firesteel.jobs.tracking.registry import ResolvedModel, fetch_pinned, resolve_model
from firesteel.jobs.tracking.runs import RunTracker
from firesteel.jobs.tracking.settle import settle_runs

__all__ = ["ResolvedModel", "RunTracker", "fetch_pinned", "resolve_model", "settle_runs"]
