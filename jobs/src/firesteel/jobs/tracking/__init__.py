"""Resolve models in MLflow and record runs there."""

from firesteel.jobs.tracking.dead import mark_dead_runs
from firesteel.jobs.tracking.registry import ResolvedModel, fetch_pinned, resolve_model
from firesteel.jobs.tracking.runs import RunTracker

__all__ = ["ResolvedModel", "RunTracker", "fetch_pinned", "mark_dead_runs", "resolve_model"]
