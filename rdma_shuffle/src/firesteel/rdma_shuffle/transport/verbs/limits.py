"""Limits of the verbs transport. This module does not load pyverbs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VerbsLimits:
    """Limits of the verbs transport.

    Parameters
    ----------
    device, gid_index
        The device and its GID index, or None for the first usable one.
    stage_bytes
        Pinned memory of one application into which outputs are copied for peers.
    channel_bytes
        Part of it that one channel of a peer may hold.
    channels
        Queue pairs, including those for peers. Above it our least recently used idle channel is closed.
    stage_wait_s
        Seconds that a STAGE waits for free memory.
    rest_s
        Seconds that a peer is read by TCP after its channel broke.
    """

    device: str | None = None
    gid_index: int | None = None
    stage_bytes: int = 32 << 20
    channel_bytes: int = 16 << 20
    channels: int = 2048
    stage_wait_s: float = 1.0
    rest_s: float = 30.0
