"""The direct operator: Spark schedules Python tasks that read, score and write files without the JVM."""

from __future__ import annotations
