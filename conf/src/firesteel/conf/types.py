"""Spark SQL's simple types with their names in Arrow, MLflow and Parquet: the one table. It is data; no library is imported.

Decimals, arrays, maps and structs have parameters and are not in it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SimpleType:
    """One type.

    Attributes
    ----------
    arrow
        As `pyarrow.type_for_alias` takes it.
    mlflow
        The column type of an MLflow schema.
    aliases
        Other names that a spec may use.
    parquet
        Physical types of Parquet that hold it without a logical type.
    bits
        The width of integers.
    """

    name: str
    arrow: str
    mlflow: str
    aliases: tuple[str, ...] = ()
    parquet: tuple[str, ...] = ()
    bits: int = 0


TYPES = (
    SimpleType("boolean", "bool", "boolean", ("bool",), ("BOOLEAN",)),
    SimpleType("tinyint", "int8", "integer", ("byte",), bits=8),
    SimpleType("smallint", "int16", "integer", ("short",), bits=16),
    SimpleType("int", "int32", "integer", ("integer",), ("INT32",), 32),
    SimpleType("bigint", "int64", "long", ("long",), ("INT64",), 64),
    SimpleType("float", "float32", "float", ("real",), ("FLOAT",)),
    SimpleType("double", "float64", "double", (), ("DOUBLE",)),
    SimpleType("string", "string", "string", ("str",)),
    SimpleType("binary", "binary", "binary", (), ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")),
    SimpleType("date", "date32", "datetime"),
    SimpleType("timestamp_ntz", "timestamp[us]", "datetime"),
    SimpleType("timestamp", "timestamp[us]", "datetime", (), ("INT96",)),  # in Arrow with the zone UTC
)
VOID = "void"
"""The type of a column that holds only nulls and was written without a type."""

NAMES = frozenset(simple.name for simple in TYPES)
ALIASES = {alias: simple.name for simple in TYPES for alias in simple.aliases}
ARROW = {simple.name: simple.arrow for simple in TYPES} | {VOID: "null"}
MLFLOW = {simple.name: simple.mlflow for simple in TYPES}
FROM_MLFLOW = {simple.mlflow: simple.name for simple in TYPES}
"""The last of the types with one MLflow name: a model with that signature gets this type."""
FROM_PARQUET = {physical: simple.name for simple in TYPES for physical in simple.parquet}
INTEGER_BITS = {simple.name: simple.bits for simple in TYPES if simple.bits}
INTEGERS = tuple(INTEGER_BITS)
"""From the narrowest to the widest."""
FLOATS = ("float", "double")
UNSIGNED = {8: "smallint", 16: "int", 32: "bigint", 64: "decimal(20,0)"}
"""Unsigned integers of Parquet, by their bits, take the next wider type."""
WIDENED = frozenset(
    {
        *((narrow, wide) for place, wide in enumerate(INTEGERS) for narrow in INTEGERS[:place]),
        *((narrow, "double") for narrow in ("tinyint", "smallint", "int", "float")),
        *((VOID, kind) for kind in (*INTEGERS, "double", "date")),
    }
)
"""(type in the file, declared type) that every reader converts without loss: Spark's, by itself, and the direct scan."""
ENFORCED = {
    "bigint": {"int", "smallint", "tinyint"},
    "int": {"smallint", "tinyint"},
    "double": {"float", "int", "smallint", "tinyint"},
    "timestamp": {"timestamp_ntz", "date"},
}
"""Model type -> types that MLflow's schema enforcement converts to it."""


def is_number(type_: str) -> bool:
    """Return whether a Spark type is numeric.

    Examples
    --------
    >>> is_number("int"), is_number("decimal(10,2)"), is_number("interval day")
    (True, True, False)
    """
    return type_.partition("(")[0] in {*INTEGERS, *FLOATS, "decimal"}
