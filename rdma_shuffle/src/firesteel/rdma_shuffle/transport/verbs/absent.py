"""Why something does not go by verbs: the typed reasons, and the errors that carry one."""

from __future__ import annotations

from enum import StrEnum

from firesteel.conf.errors import RuntimeFault


class Why(StrEnum):
    """Why reads of this service, or one of them, go by TCP."""

    SWITCHED_OFF = "switched_off"
    NO_LIBRARY = "no_library"
    NO_DEVICE = "no_device"
    NO_PORT = "no_port"
    NO_MEMORY = "no_memory"
    NOT_OPENED = "not_opened"
    PEER_HAS_NONE = "peer_has_none"
    LANE_BROKE = "lane_broke"
    STAGE_FULL = "stage_full"
    OUTSIDE_SLAB = "outside_slab"


class VerbsAbsent(RuntimeFault):
    """This machine, as it is, moves nothing by verbs.

    Parameters
    ----------
    why
        What is counted and shown.
    what, hint
        One sentence each, for people.
    """

    def __init__(self, why: Why, what: str, hint: str) -> None:
        super().__init__("FS9111", what, hint=hint)
        self.why = why

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.why, self.what, self.hint))


class FallDown(Exception):
    """One read goes a step down the ladder. Never leaves the transport."""

    def __init__(self, why: Why, detail: str) -> None:
        super().__init__(detail)
        self.why, self.detail = why, detail
