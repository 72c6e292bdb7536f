"""The trigger of a deferred task. It waits for the end of a driver that runs without the worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from firesteel_airflow.call import STATUS_TIMEOUT_S, Call, StatusUnavailable, parse_status
from firesteel_airflow.driver import Handle, end

_PROCESS_POLL_S = 0.5
_MAX_FAILURES = 20
"""Failed reads of the status in a row after which the task resumes and fails: a NameNode may be away for a while."""
_CONCURRENT = 4
"""Concurrent commands of one triggerer; each is a process that runs for a second or two."""

_slots: dict[int, asyncio.Semaphore] = {}


class FiresteelTrigger(BaseTrigger):  # type: ignore[misc]
    """Fires when a run has ended, in any way.

    The trigger watches the process of a driver on its own machine, and reads the ledger once at the end. For a driver on another
    machine it reads the run's heartbeat from the storage every `poll_interval` seconds.

    Parameters
    ----------
    call
        `Call.as_dict()`.
    handle
        Machine, pid and start time of the driver.
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
        """Return the class and the arguments of the trigger. Airflow encrypts them."""
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
        """Return only the run: Airflow logs this, and `call` has the environment of the driver."""
        return f"<FiresteelTrigger run {self.run_id}>"

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: `{"why": "ended" | "late" | "blind", "text": ...}`."""
        handle, failed = Handle(*self.handle), 0
        while True:
            if self.end_by and time.time() > self.end_by:
                yield TriggerEvent({"why": "late", "text": "execution_timeout is exceeded"})
                return
            if handle.here and not handle.gone:
                await asyncio.sleep(_PROCESS_POLL_S)
                continue
            try:
                state = await self._state()
            except StatusUnavailable as error:
                failed += 1
                self.log.warning("%s", error)
                if failed >= _MAX_FAILURES:
                    yield TriggerEvent({"why": "blind", "text": str(error)})
                    return
            else:
                failed = 0
                if state != "running":
                    yield TriggerEvent({"why": "ended", "text": state})
                    return
            await asyncio.sleep(self.poll_interval)

    async def on_kill(self) -> None:
        """The task was marked or cleared: end a local driver, and forbid a remote one to publish."""
        call, handle = Call.of(self.call), Handle(*self.handle)
        self.log.info("ending run %s", self.run_id)
        if handle.here:
            end(call, self.run_id, handle, self.kill_timeout)
            return
        await self._execute(call, call.cancel(self.run_id))

    async def _state(self) -> str:
        call = Call.of(self.call)
        code, out, err = await self._execute(call, call.status(self.run_id))
        runs = parse_status(code, out, err)["runs"]
        return next((str(run["state"]) for run in runs if run["run_id"] == self.run_id), "unknown")

    async def _execute(self, call: Call, args: list[str]) -> tuple[int, str, str]:
        loop = id(asyncio.get_running_loop())
        async with _slots.setdefault(loop, asyncio.Semaphore(_CONCURRENT)):
            try:
                process = await asyncio.create_subprocess_exec(
                    *args,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    cwd=call.folder or None,
                    env=call.surroundings(),
                )
            except OSError as error:
                raise StatusUnavailable(f"{type(error).__name__}: {error}") from error
            try:
                out, err = await asyncio.wait_for(process.communicate(), STATUS_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()
                raise StatusUnavailable(f"`firesteel` did not end within {STATUS_TIMEOUT_S:g} s") from None
            return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")
