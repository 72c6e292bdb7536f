"""Names of partition directories, as Spark and Hive write them."""

from __future__ import annotations

from urllib.parse import unquote

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


def values_of(directory: str) -> dict[str, str]:
    """The values of the columns in a partition's path, the other way round.

    Examples
    --------
    >>> values_of("dt=2013-06-01/origin=a%2Fb")
    {'dt': '2013-06-01', 'origin': 'a/b'}
    """
    pairs = (part.partition("=") for part in directory.split("/"))
    return {column: unquote(value) for column, _, value in pairs if column}
