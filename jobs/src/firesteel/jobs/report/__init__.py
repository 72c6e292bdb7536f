"""Write the report of a run: one static HTML page without JavaScript or network access."""

from firesteel.jobs.report.write import write_report

__all__ = ["write_report"]
