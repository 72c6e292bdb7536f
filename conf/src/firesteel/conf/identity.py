"""The user of this process, from the operating system: anyone can set variables such as USER and LOGNAME."""

from __future__ import annotations

import os
import pwd


def os_user() -> str:
    """Return the name of the effective user, or `uid:N` for a user without a name."""
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # in containers, a user often has no name
        return f"uid:{uid}"
