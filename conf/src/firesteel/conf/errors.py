"""The error tree of firesteel: every failure a user can meet has a code, a place, and what to do.

::

    FiresteelError                exit 1   anything of ours
    |-- SpecError         FS1xxx  exit 2   the spec file
    |-- SpecErrors                exit 2   all errors of one spec, in the order of the file
    |-- SqlError          FS2xxx  exit 2   SQL, columns and types
    |-- ModelError        FS3xxx  exit 2   model, alias, signature, trust
    |-- InputNotReady     FS4xxx  exit 4   partitions, markers, contracts of the data
    |-- RowErrorBudget    FS5xxx  exit 5   rows that could not be scored
    |-- PlanDrift         FS6xxx  exit 6   what a plan pinned has moved
    |-- GateFailed        FS7xxx  exit 3   bad data: nothing was published
    |-- LeaseConflict     FS75xx  exit 7   another driver holds, or took over, the interval
    |-- NotAllowed        FS76xx  exit 8   a policy of the site refuses
    |-- StorageError      FS8xxx  exit 1   HDFS and local files
    `-- RuntimeFault      FS9xxx  exit 1   Java, Spark, MLflow, the machine

Messages hold no secrets and no row values. Secrets are redacted as an error is made, and not as it is shown: its text goes
from there into ledgers, tags, reports, events and other processes, and here is the one place that all of them share.
Errors survive pickling, so that a worker's error reaches the driver whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from firesteel.conf.redaction import redact


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a file; `line` and `column` count from 1."""

    file: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        parts = [self.file, self.line, self.column]
        return one_line(":".join(str(part) for part in parts if part is not None))


MAX_CHARACTERS = 4000
"""Of one message: a spec's key or Spark's complaint may be of any length."""


class FiresteelError(Exception):
    """Base of all errors that firesteel raises on purpose.

    Parameters
    ----------
    code
        `FS` and four digits; explained in `docs/reference/errors.md`.
    what
        One sentence: what was found.
    where
        The place, when there is one.
    hint
        What to do about it.
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
        """The same facts for machines (`--json`)."""
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
    """Text from outside is never a line break or a command to the terminal, and not a page long."""
    if not text.isprintable():
        text = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}..."


def _rebuild(kind: type[FiresteelError], code: str, what: str, where: Where | None, hint: str) -> FiresteelError:
    return kind(code, what, where=where, hint=hint)


class SpecError(FiresteelError):
    """Something in the spec file is wrong."""

    exit_code = 2
    title = "spec"


class SqlError(FiresteelError):
    """A step's SQL does not parse, or names what does not exist."""

    exit_code = 2
    title = "sql"


class ModelError(FiresteelError):
    """A model, alias, signature or format is wrong or not trusted."""

    exit_code = 2
    title = "model"


class InputNotReady(FiresteelError):
    """Input is missing, late, or breaks its contract. Nothing was read; safe to retry."""

    exit_code = 4
    title = "input"


class RowErrorBudget(FiresteelError):
    """More rows failed to score than the budget allows. Nothing was published."""

    exit_code = 5
    title = "scoring"


class PlanDrift(FiresteelError):
    """Something that the plan pinned has moved since."""

    exit_code = 6
    title = "plan"


class GateFailed(FiresteelError):
    """A critical expectation failed. Nothing was published."""

    exit_code = 3
    title = "gate"


class LeaseConflict(FiresteelError):
    """Another driver works on the interval, or has taken it over."""

    exit_code = 7
    title = "lease"


class NotAllowed(FiresteelError):
    """A policy of the site refuses what was asked for. Nothing was published."""

    exit_code = 8
    title = "policy"


class StorageError(FiresteelError):
    """HDFS or the local file system refused."""

    title = "storage"


class RuntimeFault(FiresteelError):
    """Java, Spark, MLflow or the machine is not as needed."""

    title = "runtime"


_KINDS: tuple[tuple[str, type[FiresteelError]], ...] = (
    ("FS1", SpecError), ("FS2", SqlError), ("FS3", ModelError), ("FS4", InputNotReady), ("FS5", RowErrorBudget),
    ("FS6", PlanDrift), ("FS75", LeaseConflict), ("FS76", NotAllowed), ("FS7", GateFailed), ("FS8", StorageError), ("FS9", RuntimeFault),
)  # fmt: skip


def kind_of(code: str) -> type[FiresteelError]:
    """The class of an error of which only the code is known, as in a ledger.

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
        """Sort by file, line, column and code: the same spec gives the same list."""

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
