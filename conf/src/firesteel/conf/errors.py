"""The error tree of firesteel. Every error for the user has a code, a message, a location and a hint.

::

    FiresteelError                exit 1   base class
    |-- SpecError         FS1xxx  exit 2   the spec file
    |-- SpecErrors                exit 2   all errors of one spec, in the order of the file
    |-- SqlError          FS2xxx  exit 2   SQL, columns and types
    |-- ModelError        FS3xxx  exit 2   model, alias, signature, trust
    |-- InputNotReady     FS4xxx  exit 4   partitions, markers, contracts of the data
    |-- RowErrorBudget    FS5xxx  exit 5   rows that could not be scored
    |-- PlanDrift         FS6xxx  exit 6   a pinned model or input changed
    |-- GateFailed        FS7xxx  exit 3   bad data: nothing was published
    |-- LeaseConflict     FS75xx  exit 7   another driver holds the interval or took it over
    |-- NotAllowed        FS76xx  exit 8   a site policy refuses
    |-- StorageError      FS8xxx  exit 1   HDFS and local files
    `-- RuntimeFault      FS9xxx  exit 1   Java, Spark, MLflow, the machine

Messages contain no secrets and no row values. The constructor redacts secrets, because the text of an error goes to ledgers,
tags, reports, events and other processes. Errors can be pickled, so a worker's error reaches the driver unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from firesteel.conf.redaction import redact


@dataclass(frozen=True, slots=True)
class Where:
    """A location in a file; `line` and `column` start at 1."""

    file: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        parts = [self.file, self.line, self.column]
        return one_line(":".join(str(part) for part in parts if part is not None))


MAX_CHARACTERS = 4000
"""Limit of one message: keys of a spec and messages of Spark have no limit of their own."""


class FiresteelError(Exception):
    """Base of all errors that firesteel raises on purpose.

    Parameters
    ----------
    code
        `FS` and four digits; explained in `docs/reference/errors.md`.
    what
        One sentence: what is wrong, and what was expected.
    where
        The location in a file, if known.
    hint
        What the user can do; starts with a verb.
    """

    exit_code: ClassVar[int] = 1
    title: ClassVar[str] = "error"

    def __init__(self, code: str, what: str, *, where: Where | None = None, hint: str = "") -> None:
        what = redact(what)
        super().__init__(code, what)
        self.code = code
        self.what = one_line(what)
        self.where = where
        self.hint = one_line(redact(hint))

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.code, self.what, self.where, self.hint))

    def __str__(self) -> str:
        place = f" {self.where} " if self.where else ""
        hint = f" {self.hint}" if self.hint else ""
        return f"{self.code}{place} {self.what}{hint}"

    def as_dict(self) -> dict[str, object]:
        """Return the error as a JSON object (`--json`)."""
        where = self.where
        return {
            "code": self.code,
            "file": where.file if where else None,
            "line": where.line if where else None,
            "column": where.column if where else None,
            "what": self.what,
            "hint": self.hint,
        }


def one_line(text: str) -> str:
    """Return `text` with escaped control characters, cut to `MAX_CHARACTERS`."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}..."


def _rebuild(kind: type[FiresteelError], code: str, what: str, where: Where | None, hint: str) -> FiresteelError:
    return kind(code, what, where=where, hint=hint)


class SpecError(FiresteelError):
    """The spec file is not valid."""

    exit_code = 2
    title = "spec"


class SqlError(FiresteelError):
    """A step's SQL does not parse, or names a relation or column that does not exist."""

    exit_code = 2
    title = "sql"


class ModelError(FiresteelError):
    """A model, alias, signature or format is wrong or not trusted."""

    exit_code = 2
    title = "model"


class InputNotReady(FiresteelError):
    """Input is missing, late, or does not match its contract. Nothing was read; a retry is safe."""

    exit_code = 4
    title = "input"


class RowErrorBudget(FiresteelError):
    """More rows failed to score than the budget allows. Nothing was published."""

    exit_code = 5
    title = "scoring"


class PlanDrift(FiresteelError):
    """A model or input that the plan pinned has changed."""

    exit_code = 6
    title = "plan"


class GateFailed(FiresteelError):
    """A critical expectation failed. Nothing was published."""

    exit_code = 3
    title = "gate"


class LeaseConflict(FiresteelError):
    """Another driver holds the interval, or has taken it over."""

    exit_code = 7
    title = "lease"


class NotAllowed(FiresteelError):
    """A site policy refuses the operation. Nothing was published."""

    exit_code = 8
    title = "policy"


class StorageError(FiresteelError):
    """An operation on HDFS or the local file system failed."""

    title = "storage"


class RuntimeFault(FiresteelError):
    """Java, Spark, MLflow or the machine does not meet a requirement."""

    title = "runtime"


_KINDS: tuple[tuple[str, type[FiresteelError]], ...] = (
    ("FS1", SpecError), ("FS2", SqlError), ("FS3", ModelError), ("FS4", InputNotReady), ("FS5", RowErrorBudget),
    ("FS6", PlanDrift), ("FS75", LeaseConflict), ("FS76", NotAllowed), ("FS7", GateFailed), ("FS8", StorageError), ("FS9", RuntimeFault),
)  # fmt: skip


def kind_of(code: str) -> type[FiresteelError]:
    """Return the error class for a code, as for a code from the ledger.

    Examples
    --------
    >>> kind_of("FS7001").exit_code, kind_of("FS7502").exit_code, kind_of("FS9002").exit_code
    (3, 7, 1)
    """
    return next((kind for prefix, kind in _KINDS if code.startswith(prefix)), FiresteelError)


class SpecErrors(FiresteelError):
    """All errors of one spec at once, in the order of the file."""

    exit_code = 2
    title = "spec"

    def __init__(self, errors: tuple[FiresteelError, ...]) -> None:
        super().__init__(errors[0].code, f"{len(errors)} error(s) in the spec")
        self.errors = errors

    def __reduce__(self) -> tuple[object, ...]:
        return (SpecErrors, (self.errors,))

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)

    @classmethod
    def of(cls, errors: list[FiresteelError]) -> Self:
        """Return the errors sorted by file, line, column and code: the same spec gives the same list."""

        def place(error: FiresteelError) -> tuple[str, int, int, str, str]:
            where = error.where
            return (
                where.file if where else "",
                (where and where.line) or 0,
                (where and where.column) or 0,
                error.code,
                error.what,
            )

        return cls(tuple(sorted(errors, key=place)))
