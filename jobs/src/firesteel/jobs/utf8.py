"""Use UTF-8 in every locale: file names, arguments and texts are UTF-8 on every storage.

Without a locale, and with `LC_ALL=POSIX`, the encoding is ASCII: then Python and Java cannot open a file named `Zoë.yaml`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

_UTF8_LOCALE = "C.UTF-8"
_ASCII_LOCALES = {"", "C", "POSIX"}


def restart_in_utf8_mode() -> None:
    """Restart this process in Python's UTF-8 mode, unless its encoding of file names is UTF-8.

    A restart is needed, because Python decodes arguments and selects the encoding of file names before any code runs.
    """
    use_utf8_locale(os.environ)
    if sys.getfilesystemencoding() == "utf-8":
        return
    os.environ["PYTHONUTF8"] = "1"  # for child processes
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - the same program and arguments


def use_utf8_locale(environ: MutableMapping[str, str]) -> None:
    """Replace an ASCII locale, for the JVM and the Python workers that this process starts."""
    key = next((key for key in ("LC_ALL", "LC_CTYPE", "LANG") if environ.get(key)), "LC_CTYPE")
    if environ.get(key, "") in _ASCII_LOCALES:
        environ["LC_ALL" if key == "LC_ALL" else "LC_CTYPE"] = _UTF8_LOCALE
        environ["PYTHONUTF8"] = "1"
