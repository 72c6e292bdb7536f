"""Our errors on their way from a Python worker through the JVM to the driver, whole.

Spark turns what a worker raises into the text of a traceback. A line of that text carries our error as JSON, so the driver
raises what the worker raised: code, sentence, remedy and exit code.
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
    """What a worker raises in place of one of our errors."""

    def __init__(self, error: FiresteelError) -> None:
        facts = {"kind": type(error).__name__, "code": error.code, "what": error.what, "hint": error.hint}
        mark = base64.b64encode(json.dumps(facts).encode()).decode()
        super().__init__(f"{error} firesteel-error:{mark}")


_DIED: Final = "Python worker exited unexpectedly"
"""What Spark's PythonRunner says of a worker that is gone. It has no error condition."""


def worker_died(error: BaseException) -> bool:
    """Whether a Spark job failed because a Python worker was gone: a segfault, memory that was taken back, an exit."""
    return _DIED in str(error)


def worker_error(error: BaseException) -> FiresteelError | None:
    """The error of ours that made a Spark job fail, if one did."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        match = _MARK.search(str(current))
        if match:
            facts = json.loads(base64.b64decode(match[1]))
            kind = getattr(errors, facts["kind"], FiresteelError)
            found: FiresteelError = kind(facts["code"], facts["what"], hint=facts["hint"])
            return found
        current = current.__cause__ or current.__context__
    return None
