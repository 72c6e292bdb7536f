"""Where fetched bytes go: the slab, else the spool, else NO_SPACE; and that nothing is handed out twice."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from firesteel.rdma_shuffle.memory import slab as slabs
from firesteel.rdma_shuffle.memory.application_memory import ApplicationMemory
from firesteel.rdma_shuffle.memory.slab import Slab
from firesteel.rdma_shuffle.wire.blocks import FileExtent, SlabExtent
from firesteel.rdma_shuffle.wire.fault import ShuffleFault

SIZE = 1 << 16


@pytest.fixture
def slab(tmp_path: Path):
    made = Slab(tmp_path, "node", 1, SIZE)
    yield made
    made.close()


def memory_of(slab: Slab | None, tmp_path: Path, *, wait_s: float = 0.05, limit: int = 1 << 20) -> ApplicationMemory:
    spool = tmp_path / "spool"
    spool.mkdir(exist_ok=True)
    return ApplicationMemory(slab, spool, wait_s=wait_s, spool_limit=limit)


def content(path: str) -> bytes:
    return Path(path).read_bytes()


def test_a_slab_is_reserved_whole_private_and_shared(slab: Slab) -> None:
    found = os.stat(slab.name.path)
    assert found.st_mode & 0o777 == 0o600
    assert found.st_blocks * 512 >= SIZE, "its pages must be there before anything is written"
    slab.view(10, 3)[:] = b"abc"
    assert Path(slab.name.path).read_bytes()[10:13] == b"abc"


def test_a_closed_slab_has_no_name_and_its_mappings_stay_readable(tmp_path: Path) -> None:
    import mmap

    slab = Slab(tmp_path, "node", 1, SIZE)
    slab.view(0, 3)[:] = b"abc"
    with Path(slab.name.path).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), SIZE, prot=mmap.PROT_READ)
    slab.close()
    assert not Path(slab.name.path).exists()
    assert mapped[:3] == b"abc"


def test_a_sweep_takes_only_the_names_of_its_own_node(tmp_path: Path) -> None:
    mine, other, longer = (Slab(tmp_path, node, 1, SIZE) for node in ("a", "b", "a-b"))
    (tmp_path / "firesteel-a-notes").write_text("somebody's")
    assert slabs.sweep(tmp_path, "a") == 1
    assert not Path(mine.name.path).exists()
    assert Path(other.name.path).exists()
    assert Path(longer.name.path).exists()
    assert (tmp_path / "firesteel-a-notes").exists()


def test_no_two_slabs_share_a_name(tmp_path: Path) -> None:
    assert len({Slab(tmp_path, "node", 1, SIZE).name.path for _ in range(5)}) == 5


def test_what_fits_goes_into_the_slab(slab: Slab, tmp_path: Path) -> None:
    async def run() -> None:
        memory = memory_of(slab, tmp_path)
        allocation = await memory.allocate(100)
        allocation.view[:] = b"x" * 100
        extent = allocation.extent(10, 20)
        assert extent == SlabExtent(1, allocation.offset + 10, 20)
        allocation.free()
        assert slab.extents.lent_bytes + slab.extents.fenced_bytes == 0

    asyncio.run(run())


def test_what_is_larger_than_the_slab_is_spooled_and_its_file_deleted(slab: Slab, tmp_path: Path) -> None:
    async def run() -> None:
        memory = memory_of(slab, tmp_path)
        allocation = await memory.allocate(SIZE + 1)
        allocation.view[-3:] = b"end"
        allocation.filled()
        extent = allocation.extent(SIZE - 2, 3)
        assert isinstance(extent, FileExtent)
        assert os.stat(extent.path).st_mode & 0o777 == 0o600
        assert content(extent.path)[extent.offset :] == b"end"
        assert memory.spooled_bytes == SIZE + 1
        allocation.free()
        assert memory.spooled_bytes == 0
        assert list((tmp_path / "spool").iterdir()) == []

    asyncio.run(run())


def test_a_full_slab_is_waited_for_and_then_spooled(slab: Slab, tmp_path: Path) -> None:
    async def run() -> None:
        memory = memory_of(slab, tmp_path, wait_s=30)
        first = await memory.allocate(SIZE)
        waiting = asyncio.create_task(memory.allocate(100))
        await asyncio.sleep(0)
        first.free()
        second = await waiting
        assert second.slab is slab, "allocation came in time"
        impatient = memory_of(slab, tmp_path, wait_s=0.01)
        assert (await impatient.allocate(SIZE)).path

    asyncio.run(run())


def test_whoever_waits_longest_comes_first(slab: Slab, tmp_path: Path) -> None:
    async def run() -> None:
        memory = memory_of(slab, tmp_path, wait_s=30)
        first = await memory.allocate(SIZE)
        order: list[str] = []

        async def one(name: str, size: int) -> None:
            allocation = await memory.allocate(size)
            order.append(name)
            allocation.free()

        tasks = [asyncio.create_task(one(name, SIZE)) for name in ("a", "b", "c")]
        await asyncio.sleep(0)
        first.free()
        await asyncio.gather(*tasks)
        assert order == ["a", "b", "c"]

    asyncio.run(run())


def test_one_that_gives_up_waiting_leaves_no_trace(slab: Slab, tmp_path: Path) -> None:
    async def run() -> None:
        memory = memory_of(slab, tmp_path, wait_s=30)
        first = await memory.allocate(SIZE)
        waiting = asyncio.create_task(memory.allocate(100))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        first.free()
        assert slab.extents.lent_bytes + slab.extents.fenced_bytes == 0
        assert (await memory.allocate(SIZE)).slab is slab

    asyncio.run(run())


def test_a_fenced_room_is_given_out_only_when_its_writer_has_stopped(slab: Slab, tmp_path: Path) -> None:
    async def run() -> None:
        memory = memory_of(slab, tmp_path, wait_s=0.01)
        stop = asyncio.Event()
        allocation = await memory.allocate(SIZE)
        view = allocation.view

        async def write() -> None:
            await stop.wait()
            view[:4] = b"late"

        writer = asyncio.create_task(write())
        allocation.fence(writer)
        assert slab.extents.fenced_bytes == SIZE
        assert (await memory.allocate(100)).path, "the slab must not be used while the writer may write"
        stop.set()
        await writer
        await asyncio.sleep(0)
        assert slab.extents.fenced_bytes == 0
        assert (await memory.allocate(SIZE)).slab is slab

    asyncio.run(run())


def test_the_spool_limit_is_a_clean_refusal(tmp_path: Path) -> None:
    async def run() -> None:
        memory = memory_of(None, tmp_path, limit=100)
        allocation = await memory.allocate(60)
        with pytest.raises(ShuffleFault, match="FS9105"):
            await memory.allocate(41)
        allocation.free()
        (await memory.allocate(100)).free()

    asyncio.run(run())


def test_a_slab_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShuffleFault, match="FS9105"):
        Slab(tmp_path, "node", 1, 100)


def test_a_spooled_room_whose_writer_still_holds_a_part_of_the_view_is_freed(tmp_path: Path) -> None:
    async def run() -> None:
        memory = memory_of(None, tmp_path)
        allocation = await memory.allocate(1000)
        part = allocation.view[10:20]
        allocation.free()
        assert memory.spooled_bytes == 0
        part[:] = bytes(10)  # its memory is still there: no crash

    asyncio.run(run())
