"""Spark schemas of plan columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from firesteel.conf.identifiers import quoted

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

    from firesteel.pipelines.plan.model import Column


def schema_of(columns: Iterable[Column]) -> StructType:
    """Return the Spark schema of columns. All are nullable: files can contain nulls whatever the contract says."""
    from pyspark.sql.types import StructType

    schema = StructType.fromDDL(", ".join(f"{quoted(column.name)} {column.type}" for column in columns))
    assert isinstance(schema, StructType)
    return schema
