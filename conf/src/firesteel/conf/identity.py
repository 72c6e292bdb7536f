"""Who runs this process, by the operating system's word: variables such as USER and LOGNAME are anyone's to set."""

from __future__ import annotations

import os
import pwd


def os_user() -> str:
    """The name of the effective user, or `uid:N` for one that has none."""
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # containers run as numbers
        return f"uid:{uid}"
