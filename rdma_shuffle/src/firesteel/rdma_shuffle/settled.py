"""Waiting for what cannot be called off: a thread or a device that writes into memory which is to be given away."""

from __future__ import annotations

import asyncio
from typing import Any


async def settled(work: asyncio.Future[Any]) -> None:
    """Return when `work` is done, whatever its end. A cancellation meanwhile is raised after that, and not before."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled
