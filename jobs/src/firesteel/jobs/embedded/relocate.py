"""One class of a jar under another package's name: a part that shading has left out of the servers' jar is put back.

A class file, as far as it matters here (JVM specification, 4.1 and 4.4)::

    magic u4 | minor u2 | major u2 | constants u2 | constant[1 .. constants - 1] | everything else, which names constants by number
    constant: tag u1, then for tag 1 (text) length u2 and that many bytes, else a size that the tag gives
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
    """Write a jar with the class `name` of `jar`, in which every name that begins with `old` begins with `new`.

    Parameters
    ----------
    name, old, new
        With slashes, as class files write them.

    Raises
    ------
    KeyError
        When the jar has no such class.
    """
    with zipfile.ZipFile(jar) as archive:
        data = archive.read(f"{name}.class")
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(f"{name.replace(old, new, 1)}.class", renamed(data, old.encode(), new.encode()))
    return target


def renamed(data: bytes, old: bytes, new: bytes) -> bytes:
    """A class file with `old` replaced by `new` in its texts."""
    (constants,) = struct.unpack_from(">H", data, _HEAD)
    made = [data[: _HEAD + 2]]
    place, number = _HEAD + 2, 1
    while number < constants:
        tag = data[place]
        if tag == _TEXT:
            (length,) = struct.unpack_from(">H", data, place + 1)
            text = data[place + 3 : place + 3 + length].replace(old, new)
            made.append(struct.pack(">BH", tag, len(text)) + text)
            place += 3 + length
        else:
            made.append(data[place : place + 1 + _SIZES[tag]])
            place += 1 + _SIZES[tag]
        number += 2 if tag in {_LONG, _DOUBLE} else 1
    return b"".join((*made, data[place:]))
