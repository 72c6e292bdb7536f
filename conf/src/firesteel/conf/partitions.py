"""Names of partition directories, as Spark and Hive write them."""

from __future__ import annotations

_ESCAPED = frozenset("\"#%'*/:=?\\{[]^\x7f" + "".join(map(chr, range(1, 32))))
"""What Spark writes as %XX in the names of partition directories (ExternalCatalogUtils.escapePathName); all else stays."""


def partition_name(column: str, value: str) -> str:
    """`column=value` as Spark names the directory.

    Examples
    --------
    >>> partition_name("origin", "a/b")
    'origin=a%2Fb'
    """
    return f"{column}=" + "".join(f"%{ord(each):02X}" if each in _ESCAPED else each for each in value)
