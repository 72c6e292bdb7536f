"""Waits for work that cannot be cancelled: a thread or a device that writes into memory."""

from __future__ import annotations

import asyncio
from typing import Any


async def settled(work: asyncio.Future[Any]) -> None:
    """Wait until `work` is done, with any result. A cancellation of the caller is raised only after that."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled:
        raise cancelled
