"""The reasons of failed requests, which go over the wire, and the errors that carry them."""

from __future__ import annotations

from enum import IntEnum

from firesteel.conf.errors import RuntimeFault


class Reason(IntEnum):
    """The reasons of PROTOCOL.md."""

    NOT_HERE = 1
    UNREACHABLE = 2
    TIMEOUT = 3
    CORRUPT = 4
    NO_SPACE = 5
    UNKNOWN_APPLICATION = 6
    REFUSED = 7
    MALFORMED = 8

    @classmethod
    def of(cls, number: int) -> Reason:
        """Return the reason of a number from the wire, or MALFORMED for an unknown number."""
        return cls(number) if cls.NOT_HERE <= number <= cls.MALFORMED else cls.MALFORMED


_CODES = {
    Reason.NOT_HERE: "FS9101",
    Reason.UNREACHABLE: "FS9102",
    Reason.TIMEOUT: "FS9103",
    Reason.CORRUPT: "FS9104",
    Reason.NO_SPACE: "FS9105",
    Reason.UNKNOWN_APPLICATION: "FS9106",
    Reason.REFUSED: "FS9107",
    Reason.MALFORMED: "FS9108",
}


class ShuffleFault(RuntimeFault):
    """A failed request of the shuffle.

    Parameters
    ----------
    reason
        The reason that goes over the wire.
    detail
        One sentence for people, without secrets or data.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(_CODES[reason], detail)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.reason, self.detail))


class ServiceNotStarted(RuntimeFault):
    """The configuration of the shuffle service is invalid."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__("FS9109", what, hint=hint)

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.what, self.hint))


def malformed(detail: str) -> ShuffleFault:
    """Return the error for bytes that violate the protocol."""
    return ShuffleFault(Reason.MALFORMED, detail)
