"""Names in Spark SQL, and ids of runs."""

from __future__ import annotations

import re

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_run_id(text: str) -> bool:
    """Return whether a text is the id of a run. It is the name of a folder, so it has no separators.

    Examples
    --------
    >>> is_run_id("20130604T101112-7f3a"), is_run_id("../other")
    (True, False)
    """
    return _RUN_ID.fullmatch(text) is not None


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
