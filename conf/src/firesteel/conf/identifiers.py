"""Names in Spark SQL."""

from __future__ import annotations


def quoted(name: str) -> str:
    """A name as SQL and `pyspark.sql.functions.col` take it literally, whatever characters it has.

    Examples
    --------
    >>> quoted("a.b")
    '`a.b`'
    >>> quoted("a`b")
    '`a``b`'
    """
    return f"`{name.replace('`', '``')}`"
