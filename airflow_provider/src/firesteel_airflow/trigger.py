"""The trigger of a deferred task: waits for a driver that goes on without the worker, by what the storage says of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from firesteel_airflow.call import LOOK_TIMEOUT_S, Call, CannotLook, parsed
from firesteel_airflow.driver import Handle, end

_PROCESS_POLL_S = 0.5
_FAILED_LOOKS = 20
"""Looks in a row that may fail before the task is woken to say so: a NameNode may be away for a while."""
_AT_ONCE = 4
"""Looks of one triggerer at the same time; each is a process for a second or two."""

_looking: dict[int, asyncio.Semaphore] = {}


class FiresteelTrigger(BaseTrigger):  # type: ignore[misc]
    """Fires when a run has ended, by whatever end.

    A driver on the triggerer's own machine is watched as a process, and the ledger is read once, at its end. One elsewhere is
    looked for in the storage every `poll_interval` seconds: it beats there.

    Parameters
    ----------
    call
        `Call.as_dict()`.
    handle
        Machine, pid and start of the driver.
    end_by
        Seconds since the epoch; 0 for no limit.
    """

    def __init__(
        self,
        call: dict[str, Any],
        run_id: str,
        handle: list[Any],
        poll_interval: float,
        kill_timeout: float,
        end_by: float = 0.0,
    ) -> None:
        super().__init__()
        self.call = call
        self.run_id = run_id
        self.handle = handle
        self.poll_interval = poll_interval
        self.kill_timeout = kill_timeout
        self.end_by = end_by

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Its class and arguments; Airflow encrypts them."""
        return (
            "firesteel_airflow.trigger.FiresteelTrigger",
            {
                "call": self.call,
                "run_id": self.run_id,
                "handle": self.handle,
                "poll_interval": self.poll_interval,
                "kill_timeout": self.kill_timeout,
                "end_by": self.end_by,
            },
        )

    def __repr__(self) -> str:
        """The run alone: Airflow logs this, and `call` has the environment of the driver."""
        return f"<FiresteelTrigger run {self.run_id}>"

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event: `{"why": "ended" | "late" | "blind", "text": ...}`."""
        handle, failed = Handle(*self.handle), 0
        while True:
            if self.end_by and time.time() > self.end_by:
                yield TriggerEvent({"why": "late", "text": "execution_timeout is over"})
                return
            if handle.here and not handle.gone:
                await asyncio.sleep(_PROCESS_POLL_S)
                continue
            try:
                state = await self._look()
            except CannotLook as error:
                failed += 1
                self.log.warning("%s", error)
                if failed >= _FAILED_LOOKS:
                    yield TriggerEvent({"why": "blind", "text": str(error)})
                    return
            else:
                failed = 0
                if state != "running":
                    yield TriggerEvent({"why": "ended", "text": state})
                    return
            await asyncio.sleep(self.poll_interval)

    async def on_kill(self) -> None:
        """The task was marked or cleared: the driver is ended, or, where it is out of reach, forbidden to publish."""
        call, handle = Call.of(self.call), Handle(*self.handle)
        self.log.info("ending run %s", self.run_id)
        if handle.here:
            end(call, self.run_id, handle, self.kill_timeout)
            return
        await self._ask(call, call.cancel(self.run_id))

    async def _look(self) -> str:
        call = Call.of(self.call)
        code, out, err = await self._ask(call, call.status(self.run_id))
        runs = parsed(code, out, err)["runs"]
        return next((str(run["state"]) for run in runs if run["run_id"] == self.run_id), "unknown")

    async def _ask(self, call: Call, words: list[str]) -> tuple[int, str, str]:
        loop = id(asyncio.get_running_loop())
        async with _looking.setdefault(loop, asyncio.Semaphore(_AT_ONCE)):
            try:
                process = await asyncio.create_subprocess_exec(
                    *words,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    cwd=call.folder or None,
                    env=call.surroundings(),
                )
            except OSError as error:
                raise CannotLook(f"{type(error).__name__}: {error}") from error
            try:
                out, err = await asyncio.wait_for(process.communicate(), LOOK_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()
                raise CannotLook(f"no answer within {LOOK_TIMEOUT_S:g} s") from None
            return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")
