"""Credits: never more outstanding than allowed, nobody forgotten, nothing lost by cancellation."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firesteel.rdma_shuffle.wire.credits import Credits

READS, SIZE = 3, 100


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, 5), st.booleans()), min_size=1, max_size=30), st.randoms()
)
def test_credits_hold_their_bounds_and_come_back_whole(work, random) -> None:
    async def run() -> None:
        credits_ = Credits(READS, SIZE)
        finished = []

        async def one(size: int, turns: int) -> None:
            await credits_.take(size)
            try:
                assert credits_.used_reads <= READS
                assert credits_.used_bytes <= SIZE
                for _ in range(turns):
                    await asyncio.sleep(0)
            finally:
                credits_.give(size)
            finished.append(size)

        tasks = [asyncio.create_task(one(size, turns)) for size, turns, _ in work]
        doomed = [task for task, (_, _, cancel) in zip(tasks, work, strict=True) if cancel]
        while doomed:
            await asyncio.sleep(0)
            doomed.pop(random.randrange(len(doomed))).cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(finished) >= sum(not cancel for _, _, cancel in work)
        assert (credits_.used_reads, credits_.used_bytes) == (0, 0)

    asyncio.run(run())


def test_a_large_request_is_not_overtaken_by_small_ones() -> None:
    async def run() -> None:
        credits_ = Credits(10, SIZE)
        await credits_.take(60)
        order = []

        async def one(size: int) -> None:
            await credits_.take(size)
            order.append(size)

        large, small = asyncio.create_task(one(90)), asyncio.create_task(one(10))
        for _ in range(3):
            await asyncio.sleep(0)
        assert order == [], "the small one would fit, but the large one is first"
        credits_.give(60)
        await asyncio.gather(large, small)
        assert order == [90, 10]

    asyncio.run(run())


def test_more_than_all_credits_is_an_error_and_no_wait_for_ever() -> None:
    with pytest.raises(ValueError, match="larger than all credits"):
        asyncio.run(Credits(1, 10).take(11))


@pytest.mark.parametrize(("reads", "size"), [(0, 1), (1, 0)])
def test_credits_that_allow_nothing_are_refused(reads: int, size: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Credits(reads, size)
