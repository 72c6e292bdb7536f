"""The reasons to use TCP instead of verbs, and the errors that carry one."""

from __future__ import annotations

from enum import StrEnum

from firesteel.conf.errors import RuntimeFault


class FallbackReason(StrEnum):
    """Why all reads of this service, or one of them, use TCP."""

    SWITCHED_OFF = "switched_off"
    NO_LIBRARY = "no_library"
    NO_DEVICE = "no_device"
    NO_PORT = "no_port"
    NO_MEMORY = "no_memory"
    NOT_OPENED = "not_opened"
    PEER_HAS_NONE = "peer_has_none"
    CHANNEL_BROKE = "channel_broke"
    STAGE_FULL = "stage_full"
    OUTSIDE_SLAB = "outside_slab"


class VerbsUnavailable(RuntimeFault):
    """This machine cannot use RDMA verbs.

    Parameters
    ----------
    reason
        The reason for metrics and the status.
    what, hint
        One sentence each, for people.
    """

    def __init__(self, reason: FallbackReason, what: str, hint: str) -> None:
        super().__init__("FS9111", what, hint=hint)
        self.reason = reason

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.reason, self.what, self.hint))


class TcpFallback(Exception):
    """One read must use TCP instead of verbs. The error never leaves the transport."""

    def __init__(self, reason: FallbackReason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail
