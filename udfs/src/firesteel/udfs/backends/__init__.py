"""Forms of a model: the MLflow pyfunc as the reference, and faster ones that are held against it before they are used."""

from __future__ import annotations
