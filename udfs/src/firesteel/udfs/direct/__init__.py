"""The direct operator: Spark schedules, and its tasks scan, score and write files by themselves. Nothing goes through the JVM."""

from __future__ import annotations
