"""Client processes (executors) and their leases. Allocations are freed when a process releases its lease or ends.

A lost connection does not end a lease: the process may still read its mapping. A pidfd becomes readable when its process
ends, and never refers to another process.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
from collections.abc import Callable, Sequence

from firesteel.rdma_shuffle.memory.application_memory import Allocation


class ClientProcess:
    """One process. With `pid` 0 it is in a PID namespace that we cannot see, and its leases end with its application."""

    def __init__(self, pid: int, died: Callable[[ClientProcess], None]) -> None:
        self.pid = pid
        self.leases: dict[int, tuple[Allocation, ...]] = {}
        self.dead = False
        self._died = died
        self._file = -1
        if not pid:
            return
        try:
            self._file = os.pidfd_open(pid)
        except ProcessLookupError:
            self.dead = True
            return
        asyncio.get_running_loop().add_reader(self._file, self._end)

    def _end(self) -> None:
        self.dead = True
        self._died(self)
        self.close()

    def close(self) -> None:
        """Free all allocations. Idempotent."""
        if self._file >= 0:
            asyncio.get_running_loop().remove_reader(self._file)
            os.close(self._file)
            self._file = -1
        leases, self.leases = self.leases, {}
        for allocations in leases.values():
            for allocation in allocations:
                allocation.free()

    @property
    def held_bytes(self) -> int:
        return sum(allocation.size for allocations in self.leases.values() for allocation in allocations)


class ClientProcesses:
    """The client processes of one application, by process id."""

    def __init__(self, died: Callable[[], None]) -> None:
        self._by_pid: dict[int, ClientProcess] = {}
        self._on_death = died
        # Not from 1: a RELEASE for an earlier process of the service must not release a lease of this one.
        self._numbers = itertools.count(secrets.randbits(48) + 1)

    def __len__(self) -> int:
        return len(self._by_pid)

    def of(self, pid: int) -> ClientProcess:
        """Return the client of a process id, the same object as long as the process lives."""
        process = self._by_pid.get(pid)
        if process is None or process.dead:  # the pid was reused
            process = self._by_pid[pid] = ClientProcess(pid, self._died)
        return process

    def _died(self, process: ClientProcess) -> None:
        if process.leases:
            self._on_death()
        self._by_pid.pop(process.pid, None)

    def lend(self, process: ClientProcess, allocations: Sequence[Allocation]) -> int:
        """Return a lease over allocations, or 0 if there is none. A dead process gets none, and its allocations are freed."""
        if not allocations:
            return 0
        if process.dead:
            for allocation in allocations:
                allocation.free()
            return 0
        lease = next(self._numbers)
        process.leases[lease] = tuple(allocations)
        return lease

    def release(self, process: ClientProcess, lease: int) -> None:
        """End a lease. An unknown one is ignored: it may belong to an earlier process of the service."""
        for allocation in process.leases.pop(lease, ()):
            allocation.free()

    @property
    def held_bytes(self) -> int:
        return sum(process.held_bytes for process in self._by_pid.values())

    @property
    def leases(self) -> int:
        return sum(len(process.leases) for process in self._by_pid.values())

    def close(self) -> None:
        for process in list(self._by_pid.values()):
            process.close()
        self._by_pid.clear()
