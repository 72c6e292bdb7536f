"""Who holds lent extents: processes of executors. What they hold comes back when they say so, or when they are dead.

A lost connection proves nothing: the process may still read what it mapped. A pidfd becomes readable when its process
ends, and is never another's.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
from collections.abc import Callable, Sequence

from firesteel.rdma_shuffle.memory import Room


class Holder:
    """One process. `pid` 0: it lives in a PID namespace that we do not see, and ends with its application."""

    def __init__(self, pid: int, died: Callable[[Holder], None]) -> None:
        self.pid = pid
        self.leases: dict[int, tuple[Room, ...]] = {}
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
        """Everything comes back. Idempotent."""
        if self._file >= 0:
            asyncio.get_running_loop().remove_reader(self._file)
            os.close(self._file)
            self._file = -1
        leases, self.leases = self.leases, {}
        for rooms in leases.values():
            for room in rooms:
                room.free()

    @property
    def held_bytes(self) -> int:
        return sum(room.size for rooms in self.leases.values() for room in rooms)


class Holders:
    """The holders of one application, by process."""

    def __init__(self, died: Callable[[], None]) -> None:
        self._by_pid: dict[int, Holder] = {}
        self._told_died = died
        # Not from 1: a RELEASE that was meant for an earlier life of the service must not hit a lease of this one.
        self._numbers = itertools.count(secrets.randbits(48) + 1)

    def __len__(self) -> int:
        return len(self._by_pid)

    def of(self, pid: int) -> Holder:
        """The holder of a process; the same one as long as that process lives."""
        holder = self._by_pid.get(pid)
        if holder is None or holder.dead:  # a pid is used again
            holder = self._by_pid[pid] = Holder(pid, self._died)
        return holder

    def _died(self, holder: Holder) -> None:
        if holder.leases:
            self._told_died()
        self._by_pid.pop(holder.pid, None)

    def lend(self, holder: Holder, rooms: Sequence[Room]) -> int:
        """A lease over rooms; 0 for none. To a process that is dead already nothing is lent."""
        if not rooms:
            return 0
        if holder.dead:
            for room in rooms:
                room.free()
            return 0
        lease = next(self._numbers)
        holder.leases[lease] = tuple(rooms)
        return lease

    def release(self, holder: Holder, lease: int) -> None:
        """Take a lease back. One that this process does not have is ignored: it may be of an earlier life."""
        for room in holder.leases.pop(lease, ()):
            room.free()

    @property
    def held_bytes(self) -> int:
        return sum(holder.held_bytes for holder in self._by_pid.values())

    @property
    def leases(self) -> int:
        return sum(len(holder.leases) for holder in self._by_pid.values())

    def close(self) -> None:
        for holder in list(self._by_pid.values()):
            holder.close()
        self._by_pid.clear()
