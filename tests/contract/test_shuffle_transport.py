"""What every transport between services must do. Two of them in one process, real sockets, real files.

`verbs` runs where there is a device: tests/rdma runs this file in a guest that has two.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from firesteel.rdma_shuffle.transport.base import ApplicationEnded, LeaseRenewed, ShuffleRemoved
from firesteel.rdma_shuffle.wire.blocks import FileExtent, Found, Missing, Piece, Range
from firesteel.rdma_shuffle.wire.fault import Reason
from support.rdma import RDMA_DEVICES
from support.shuffle_node import table_of
from support.shuffle_transports import (
    KEY,
    MIB,
    OTHER_KEY,
    Two,
    blocks_of,
    landed,
    pieces_of,
    read,
    refused,
    two_by_tcp,
    two_by_verbs,
)

TRANSPORTS = {"tcp": two_by_tcp, "verbs": two_by_verbs}
Test = Callable[[Two], Awaitable[None]]


@pytest.fixture(params=["tcp", *(["verbs"] if RDMA_DEVICES else [])])
def run(request, tmp_path: Path):
    """Run a coroutine function on two transports; afterwards both are closed and no file is left open."""

    def runs(test: Test, **options: object) -> None:
        async def whole() -> None:
            two = await TRANSPORTS[request.param](tmp_path, **options)
            for shelf in (two.near_shelf, two.far_shelf):
                shelf.add("app", KEY)
            try:
                await test(two)
            finally:
                await two.near.close()
                await two.near.close()
                await two.fall()
                for shelf in (two.near_shelf, two.far_shelf):
                    for catalogue in shelf.catalogues.values():
                        catalogue.close()

        before = len(os.listdir("/proc/self/fd"))
        asyncio.run(whole(), debug=False)
        assert len(os.listdir("/proc/self/fd")) <= before

    return runs


def test_lengths_and_checksums_are_located_in_order(run) -> None:
    blocks = blocks_of(10, 0, 70_000)

    async def test(two: Two) -> None:
        two.far_shelf.put("app", 0, 1, blocks)
        asked = [Range(0, 1, 2, 3), Range(0, 9, 0, 1), Range(0, 1, 0, 3), Range(0, 1, 0, 4)]
        found = await two.near.locate("far", "app", asked)
        assert found[0] == Found(table_of(blocks[2:]))
        assert found[2] == Found(table_of(blocks))
        assert [each.reason for each in found if isinstance(each, Missing)] == [Reason.NOT_HERE] * 2

    run(test)


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param([1], id="one byte"),
        pytest.param([0, 5, 0], id="empty ones between"),
        pytest.param([1000] * 500, id="many small"),
        pytest.param([200, 300_000, 7, 65_536, 65_535], id="small and large"),
        pytest.param([20 * MIB], id="larger than all credits"),
        pytest.param([3 * MIB] * 8, id="together larger than all credits"),
        pytest.param([], id="nothing"),
    ],
)
def test_pieces_arrive_in_order(run, sizes: list[int]) -> None:
    blocks = blocks_of(*sizes)

    async def test(two: Two) -> None:
        if blocks:
            two.far_shelf.put("app", 0, 1, blocks)
        assert await read(two, pieces_of(blocks)) == b"".join(blocks)

    run(test)


def test_parts_of_a_range_arrive(run) -> None:
    blocks = blocks_of(100_000, 100_000)

    async def test(two: Two) -> None:
        two.far_shelf.put("app", 0, 1, blocks)
        whole = b"".join(blocks)
        asked = [Piece(Range(0, 1, 0, 2), 150_000, 50_000), Piece(Range(0, 1, 0, 2), 99_999, 2)]
        assert await read(two, asked) == whole[150_000:] + whole[99_999:100_001]

    run(test)


def test_many_reads_at_once_do_not_mix(run) -> None:
    maps = {number: blocks_of(*([number * 777 + 1] * 20), 300_000) for number in range(12)}

    async def test(two: Two) -> None:
        for number, blocks in maps.items():
            two.far_shelf.put("app", 0, number, blocks)
        jobs = [(number, read(two, pieces_of(maps[number], 0, number))) for number in maps for _ in range(3)]
        found = await asyncio.gather(*(job for _, job in jobs))
        assert [b"".join(maps[number]) for number, _ in jobs] == found

    run(test)


def test_a_block_that_is_not_there_is_not_here_and_the_next_read_goes_on(run) -> None:
    blocks = blocks_of(10)

    async def test(two: Two) -> None:
        two.far_shelf.put("app", 0, 1, blocks)
        assert await refused(read(two, [Piece(Range(0, 2, 0, 1), 0, 10)])) is Reason.NOT_HERE
        assert await read(two, pieces_of(blocks)) == blocks[0]

    run(test)


def test_a_piece_that_reaches_into_the_next_reduce_is_malformed(run) -> None:
    async def test(two: Two) -> None:
        two.far_shelf.put("app", 0, 1, blocks_of(10, 10))
        assert await refused(read(two, [Piece(Range(0, 1, 0, 1), 5, 6)])) is Reason.MALFORMED

    run(test)


def test_one_application_cannot_have_the_blocks_of_another(run) -> None:
    async def test(two: Two) -> None:
        two.far_shelf.add("other", OTHER_KEY)
        two.far_shelf.put("other", 0, 1, blocks_of(10))
        (found,) = await two.near.locate("far", "app", [Range(0, 1, 0, 1)])
        assert isinstance(found, Missing)
        assert await refused(read(two, [Piece(Range(0, 1, 0, 1), 0, 10)])) is Reason.NOT_HERE

    run(test)


def test_a_service_that_does_not_know_the_secret_of_an_application_gets_nothing(run) -> None:
    async def test(two: Two) -> None:
        two.near_shelf.add("other", KEY)
        two.far_shelf.add("other", OTHER_KEY)
        two.far_shelf.put("other", 0, 1, blocks_of(10))
        for attempt in range(2):
            asked = two.near.locate("far", "other", [Range(0, 1, 0, 1)])
            assert await refused(asked) is Reason.REFUSED, f"attempt {attempt}"
        assert await refused(read(two, [Piece(Range(0, 1, 0, 1), 0, 10)], "other")) is Reason.REFUSED

    run(test)


def test_an_application_that_the_peer_does_not_know_is_unknown_until_it_is_claimed_there(run) -> None:
    async def test(two: Two) -> None:
        two.near_shelf.add("new", KEY)
        assert await refused(two.near.notify("far", "new", LeaseRenewed())) is Reason.UNKNOWN_APPLICATION
        two.far_shelf.add("new", KEY)
        await two.near.notify("far", "new", LeaseRenewed())

    run(test)


def test_an_application_that_ended_there_and_came_again_is_known_again(run) -> None:
    async def test(two: Two) -> None:
        await two.near.notify("far", "app", LeaseRenewed())
        catalogue = two.far_shelf.catalogues.pop("app")
        assert await refused(two.near.locate("far", "app", [Range(0, 1, 0, 1)])) is Reason.UNKNOWN_APPLICATION
        two.far_shelf.catalogues["app"] = catalogue
        await two.near.notify("far", "app", LeaseRenewed())

    run(test)


def test_notices_are_delivered(run) -> None:
    async def test(two: Two) -> None:
        for notice in (LeaseRenewed(), ShuffleRemoved(7), ApplicationEnded()):
            await two.near.notify("far", "app", notice)
        assert two.far_shelf.notices == [
            ("app", LeaseRenewed()),
            ("app", ShuffleRemoved(7)),
            ("app", ApplicationEnded()),
        ]

    run(test)


def test_a_peer_of_another_name_is_refused(run) -> None:
    async def test(two: Two) -> None:
        two.misname()
        assert await refused(two.near.notify("far", "app", LeaseRenewed())) is Reason.REFUSED
        assert two.far_shelf.notices == []

    run(test)


def test_a_peer_with_another_cluster_secret_is_refused(run) -> None:
    async def test(two: Two) -> None:
        assert await refused(two.near.notify("far", "app", LeaseRenewed())) is Reason.REFUSED
        assert two.far_shelf.notices == []

    run(test, far_cluster=b"x" * 32)


def test_a_peer_that_is_gone_is_unreachable_and_reached_again_when_it_is_back(run) -> None:
    blocks = blocks_of(10)

    async def test(two: Two) -> None:
        two.far_shelf.put("app", 0, 1, blocks)
        assert await read(two, pieces_of(blocks)) == blocks[0]
        await two.fall()
        assert await refused(read(two, pieces_of(blocks))) is Reason.UNREACHABLE
        assert await refused(two.near.locate("far", "app", [Range(0, 1, 0, 1)])) is Reason.UNREACHABLE
        await two.rise()
        assert await read(two, pieces_of(blocks)) == blocks[0]

    run(test)


def test_after_a_cancelled_read_nothing_lands_any_more(run) -> None:
    blocks = blocks_of(6 * MIB)

    async def test(two: Two) -> None:
        two.far_shelf.put("app", 0, 1, blocks)
        for _ in range(5):
            target = two.buffer(6 * MIB)
            view = memoryview(target)
            reading = asyncio.create_task(two.near.read("far", "app", pieces_of(blocks), view))
            await landed(two, view)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            # Somebody else's from here on: a canary that a late write would kill.
            target[:] = canary = b"\xa5" * len(target)
            assert await read(two, pieces_of(blocks)) == blocks[0], "the transport is as good as before"
            assert target == canary

    run(test)


def test_credits_of_cancelled_reads_come_back(run) -> None:
    blocks = blocks_of(4 * MIB)

    async def test(two: Two) -> None:
        two.far_shelf.put("app", 0, 1, blocks)
        for _ in range(3):  # together far more than the 8 MiB and 64 reads that are outstanding at most
            into = [two.buffer(4 * MIB) for _ in range(8)]
            tasks = [
                asyncio.create_task(two.near.read("far", "app", pieces_of(blocks), memoryview(each))) for each in into
            ]
            await asyncio.sleep(0.0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(30):
            assert await read(two, pieces_of(blocks)) == blocks[0]

    run(test)


def test_when_the_peer_falls_in_mid_read_it_is_unreachable_and_nothing_lands_later(run) -> None:
    blocks = blocks_of(40 * MIB)

    async def test(two: Two) -> None:
        two.far_shelf.put("app", 0, 1, blocks)
        view = memoryview(two.buffer(40 * MIB))
        reading = asyncio.create_task(two.near.read("far", "app", pieces_of(blocks), view))
        await landed(two, view)
        await two.fall()
        assert await refused(reading) is Reason.UNREACHABLE

    run(test)


def test_a_file_that_became_shorter_ends_the_read_and_not_the_peer(run) -> None:
    blocks, others = blocks_of(300_000), blocks_of(10)

    async def test(two: Two) -> None:
        two.far_shelf.put("app", 0, 1, blocks)
        two.far_shelf.put("app", 0, 2, others)
        found = two.far_shelf.locate("app", Range(0, 1, 0, 1))
        assert isinstance(found, Found)
        assert isinstance(found.extents[0], FileExtent)
        os.truncate(found.extents[0].path, 200_000)
        assert await refused(read(two, pieces_of(blocks))) is two.shorter
        assert await read(two, pieces_of(others, 0, 2)) == others[0]

    run(test)


def test_a_removed_file_ends_the_read_and_not_the_peer(run) -> None:
    blocks, others = blocks_of(300_000), blocks_of(10)

    async def test(two: Two) -> None:
        two.far_shelf.put("app", 0, 1, blocks)
        two.far_shelf.put("app", 0, 2, others)
        found = two.far_shelf.locate("app", Range(0, 1, 0, 1))
        assert isinstance(found, Found)
        assert isinstance(found.extents[0], FileExtent)
        os.unlink(found.extents[0].path)
        assert await refused(read(two, pieces_of(blocks))) in {Reason.UNREACHABLE, Reason.NOT_HERE}
        assert await read(two, pieces_of(others, 0, 2)) == others[0]

    run(test)


def test_every_method_works_after_any_number_of_cancellations(run) -> None:
    blocks = blocks_of(100_000)

    async def test(two: Two) -> None:
        two.far_shelf.put("app", 0, 1, blocks)
        for turns in range(30):  # cancelled at each of its first thirty steps: dialling, proving, attaching, reading
            task = asyncio.create_task(read(two, pieces_of(blocks)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert await read(two, pieces_of(blocks)) == blocks[0]

    run(test)
