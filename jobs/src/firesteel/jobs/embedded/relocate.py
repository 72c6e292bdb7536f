"""Copy a class of a jar to another package, to add a class that the shaded server jar lacks.

Relevant parts of a class file (JVM specification, 4.1 and 4.4)::

    magic u4 | minor u2 | major u2 | constants u2 | constant[1 .. constants - 1] | rest, which references constants by number
    constant: tag u1, then length u2 and the bytes for tag 1 (text), else a number of bytes that depends on the tag
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

_TEXT, _LONG, _DOUBLE = 1, 5, 6
_SIZES = {
    3: 4,
    4: 4,
    _LONG: 8,
    _DOUBLE: 8,
    7: 2,
    8: 2,
    9: 4,
    10: 4,
    11: 4,
    12: 4,
    15: 3,
    16: 2,
    17: 4,
    18: 4,
    19: 2,
    20: 2,
}
_HEAD = 8


def relocate(jar: Path, name: str, old: str, new: str, target: Path) -> Path:
    """Write a jar with the class `name` of `jar`, and replace the prefix `old` of names by `new`.

    Parameters
    ----------
    name, old, new
        Names with slashes, as in class files.

    Raises
    ------
    KeyError
        The jar does not contain the class.
    """
    with zipfile.ZipFile(jar) as archive:
        data = archive.read(f"{name}.class")
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(f"{name.replace(old, new, 1)}.class", renamed(data, old.encode(), new.encode()))
    return target


def renamed(data: bytes, old: bytes, new: bytes) -> bytes:
    """Return a class file with `old` replaced by `new` in its text constants."""
    (constants,) = struct.unpack_from(">H", data, _HEAD)
    parts = [data[: _HEAD + 2]]
    position, number = _HEAD + 2, 1
    while number < constants:
        tag = data[position]
        if tag == _TEXT:
            (length,) = struct.unpack_from(">H", data, position + 1)
            text = data[position + 3 : position + 3 + length].replace(old, new)
            parts.append(struct.pack(">BH", tag, len(text)) + text)
            position += 3 + length
        else:
            parts.append(data[position : position + 1 + _SIZES[tag]])
            position += 1 + _SIZES[tag]
        number += 2 if tag in {_LONG, _DOUBLE} else 1
    return b"".join((*parts, data[position:]))
