"""Evaluate gates: run expectations on Spark frames before an interval is published."""

from firesteel.jobs.gates.check import check_kwargs, known_expectations
from firesteel.jobs.gates.distribution import distribution
from firesteel.jobs.gates.gx import warm_up
from firesteel.jobs.gates.run import raise_if_failed, run_gate

__all__ = ["check_kwargs", "distribution", "known_expectations", "raise_if_failed", "run_gate", "warm_up"]
