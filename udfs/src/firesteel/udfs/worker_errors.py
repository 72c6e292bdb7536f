"""Carry firesteel errors from a Python worker through the JVM to the driver.

Spark converts a worker's exception to the text of a traceback. The message contains the error as JSON, so the driver can raise the same
error with its code, message, hint and exit code.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Final

from firesteel.conf import errors
from firesteel.conf.errors import FiresteelError

_MARK: Final = re.compile(r"firesteel-error:([A-Za-z0-9+/=]+)")


class WorkerError(Exception):
    """Wraps a firesteel error in a worker."""

    def __init__(self, error: FiresteelError) -> None:
        facts = {"kind": type(error).__name__, "code": error.code, "what": error.what, "hint": error.hint}
        mark = base64.b64encode(json.dumps(facts).encode()).decode()
        super().__init__(f"{error} firesteel-error:{mark}")


_CRASHED: Final = "Python worker exited unexpectedly"
"""The message of Spark's PythonRunner for a crashed worker. It has no error condition."""


def worker_died(error: BaseException) -> bool:
    """Return whether a Spark job failed because a Python worker crashed (segfault, OOM kill or exit)."""
    return _CRASHED in str(error)


def worker_error(error: BaseException) -> FiresteelError | None:
    """Return the firesteel error that caused a Spark job to fail, or None."""
    visited: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in visited:
        visited.add(id(current))
        match = _MARK.search(str(current))
        if match:
            facts = json.loads(base64.b64decode(match[1]))
            kind = getattr(errors, facts["kind"], FiresteelError)
            worker_failure: FiresteelError = kind(facts["code"], facts["what"], hint=facts["hint"])
            return worker_failure
        current = current.__cause__ or current.__context__
    return None
