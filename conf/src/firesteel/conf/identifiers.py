"""Names in Spark SQL."""

from __future__ import annotations


def quoted(name: str) -> str:
    """Return a name in backquotes, so that SQL and `pyspark.sql.functions.col` read every character literally.

    Examples
    --------
    >>> quoted("a.b")
    '`a.b`'
    >>> quoted("a`b")
    '`a``b`'
    """
    return f"`{name.replace('`', '``')}`"
