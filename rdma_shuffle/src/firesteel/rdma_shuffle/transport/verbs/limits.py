"""What the verbs transport may use. Loads nothing of verbs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VerbsLimits:
    """What the transport may use.

    Parameters
    ----------
    device, gid_index
        Which; None: the first that can be used.
    stage_bytes
        Pinned memory in which one application's outputs stand for peers.
    lane_bytes
        What one lane of a peer may have staged at a time.
    lanes
        Queue pairs, of both sides together. Over it the idle lane of ours that was used longest ago is closed.
    stage_wait_s
        How long a peer waits for room to stage.
    rest_s
        How long a peer whose lane broke is read by TCP.
    """

    device: str | None = None
    gid_index: int | None = None
    stage_bytes: int = 32 << 20
    lane_bytes: int = 16 << 20
    lanes: int = 2048
    stage_wait_s: float = 1.0
    rest_s: float = 30.0
