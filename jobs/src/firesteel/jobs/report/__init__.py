"""The report: one static HTML page per run, that needs no network and no JavaScript."""

from firesteel.jobs.report.write import write_report

__all__ = ["write_report"]
