"""UTF-8 whatever the locale: names of files, arguments and text are UTF-8 on every storage that firesteel reads.

A container without a locale, and `LC_ALL=POSIX`, mean ASCII. Python can then not open a file named `Zoë.yaml`, and Java cannot read one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

_UTF8_LOCALE = "C.UTF-8"
_ASCII_LOCALES = {"", "C", "POSIX"}


def in_utf8() -> None:
    """Start this process again in Python's UTF-8 mode, where its encoding of file names is another one.

    Nothing else works: Python decodes the arguments and chooses the encoding of file names before any code runs.
    """
    use_utf8_locale(os.environ)
    if sys.getfilesystemencoding() == "utf-8":
        return
    os.environ["PYTHONUTF8"] = "1"  # for the processes that this one starts
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - the same program and arguments


def use_utf8_locale(environ: MutableMapping[str, str]) -> None:
    """Replace a locale that means ASCII, for the JVM and the Python workers that this process starts."""
    key = next((key for key in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(key)), "LC_CTYPE")
    if environ.get(key, "") in _ASCII_LOCALES:
        environ["LC_ALL" if key == "LC_ALL" else "LC_CTYPE"] = _UTF8_LOCALE
        environ["PYTHONUTF8"] = "1"
