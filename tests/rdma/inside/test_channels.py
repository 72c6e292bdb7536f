"""What only RDMA can do wrong: keys, queue pairs, completions that come late, and the ladder below it all. Real devices."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from firesteel.rdma_shuffle.transport.verbs import queue_pair as pairs
from firesteel.rdma_shuffle.transport.verbs.channel_server import ChannelServer
from firesteel.rdma_shuffle.transport.verbs.limits import VerbsLimits
from firesteel.rdma_shuffle.transport.verbs.transport import VerbsTransport
from firesteel.rdma_shuffle.transport.verbs.unavailable import FallbackReason
from firesteel.rdma_shuffle.wire.blocks import Piece, Range
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.wire.peer_messages import Staged
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
    two_by_verbs,
)


@dataclass
class Ends:
    """Both transports, as what they are."""

    two: Two
    near: VerbsTransport
    far: VerbsTransport

    async def settle(self) -> None:
        """Wait for the last UNSTAGE, which has no answer; then nothing is posted or held on either side."""
        async with asyncio.timeout(20):
            while self.far.serving.staged_bytes:  # noqa: ASYNC110 - what another task does has no event here
                await asyncio.sleep(0.005)
        assert self.near.device.posted == 0
        assert self.near.device.slots.used_reads == 0

    @property
    def channels(self):
        return list(self.near._channels.values())


@pytest.fixture
def run(tmp_path: Path):
    def runs(test, **limits: object) -> None:
        async def whole() -> None:
            two = await two_by_verbs(tmp_path, limits=replace(VerbsLimits(rest_s=0.0), **limits))
            for shelf in (two.near_shelf, two.far_shelf):
                shelf.add("app", KEY)
            assert isinstance(two.near, VerbsTransport)
            ends = Ends(two, two.near, two.far())
            try:
                await test(ends)
            finally:
                await two.near.close()
                await ends.far.close()
                for shelf in (two.near_shelf, two.far_shelf):
                    for catalogue in shelf.catalogues.values():
                        catalogue.close()

        asyncio.run(whole())

    return runs


def resources() -> dict[str, int]:
    """Queue pairs, regions, domains and queues that the kernel knows of this process."""
    found = {}
    for kind in ("qp", "mr", "pd", "cq"):
        told = subprocess.run(["rdma", "resource", "show", kind], capture_output=True, text=True, check=True).stdout
        found[kind] = sum(f"pid {os.getpid()} " in f"{line} " for line in told.splitlines())
    found["fd"] = len(os.listdir("/proc/self/fd"))
    return found


def staged_otherwise(monkeypatch: pytest.MonkeyPatch, change) -> None:
    """An owner that tells another place than where it has staged."""
    stage = ChannelServer.stage

    async def lies(self, owner, number, pieces) -> Staged:
        return change(await stage(self, owner, number, pieces))

    monkeypatch.setattr(ChannelServer, "stage", lies)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda staged: replace(staged, rkey=staged.rkey ^ 0xFF), id="another key"),
        pytest.param(lambda staged: replace(staged, address=staged.address + (1 << 30)), id="beyond the region"),
        pytest.param(lambda staged: replace(staged, address=0), id="nowhere"),
    ],
)
def test_a_read_of_what_is_not_registered_breaks_the_channel_and_the_bytes_come_by_tcp(
    run, monkeypatch, caplog, change
):
    blocks = blocks_of(70_000, 3)

    async def test(ends: Ends) -> None:
        ends.two.far_shelf.put("app", 0, 1, blocks)
        with monkeypatch.context() as patched:
            staged_otherwise(patched, change)
            for _ in range(2):
                assert await read(ends.two, pieces_of(blocks)) == b"".join(blocks)
        assert ends.near.fallbacks == {FallbackReason.CHANNEL_BROKE: 2}
        assert await read(ends.two, pieces_of(blocks)) == b"".join(blocks)
        assert (ends.near.fallbacks, ends.near.reads) == ({FallbackReason.CHANNEL_BROKE: 2}, 1), (
            "a new channel is as good as the first"
        )

    with caplog.at_level(logging.WARNING):
        run(test)
    (told,) = [record.getMessage() for record in caplog.records if "come by TCP" in record.getMessage()]
    assert "IBV_WC_REM_ACCESS_ERR" in told or "IBV_WC_REM_INV_REQ_ERR" in told


def test_the_key_of_one_application_opens_nothing_on_the_channel_of_another(run, monkeypatch):
    """A peer that knows the key and the place, but not the secret: the device refuses, since the domain is another."""
    secret, own = blocks_of(50_000), blocks_of(50_000)

    async def test(ends: Ends) -> None:
        ends.two.near_shelf.add("own", OTHER_KEY)
        ends.two.far_shelf.add("own", OTHER_KEY)
        ends.two.far_shelf.put("app", 0, 1, secret)
        ends.two.far_shelf.put("own", 0, 1, own)
        assert await read(ends.two, pieces_of(secret)) == secret[0]
        staging = ends.far._domains["app"].staging
        assert staging
        assert bytes(staging.view(0, 50_000)) == secret[0], "it still stands there"
        ends.two.buffer(1)
        into = ends.two.buffer(50_000)
        seen = []

        def lie(staged: Staged) -> Staged:
            return replace(staged, rkey=staging.rkey, address=staging.base)

        staged_otherwise(monkeypatch, lie)
        monkeypatch.setattr(ends.near, "_count_fallback", lambda _owner, down: seen.append((down.reason, bytes(into))))
        await ends.near.read("far", "own", pieces_of(own), memoryview(into))
        assert bytes(into) == own[0]
        ((why, landed_by_rdma),) = seen
        assert why is FallbackReason.CHANNEL_BROKE
        assert landed_by_rdma != secret[0]
        assert secret[0][:64] not in landed_by_rdma

    run(test)


@pytest.mark.parametrize("side", ["near", "far"])
def test_a_queue_pair_that_errs_in_mid_read_costs_a_fall_and_no_byte(run, side: str):
    blocks = blocks_of(*[5 * MIB] * 6)

    async def test(ends: Ends) -> None:
        ends.two.far_shelf.put("app", 0, 1, blocks)
        view = memoryview(ends.two.buffer(30 * MIB))
        reading = asyncio.create_task(ends.near.read("far", "app", pieces_of(blocks), view))
        await landed(ends.two, view)
        assert not reading.done()
        if side == "near":
            ends.channels[0]._pair.fail()
        else:
            (channel,) = [channel for channels in ends.far.serving._channels.values() for channel in channels.values()]
            channel.pair.fail()
        await reading
        assert bytes(view) == b"".join(blocks)
        assert ends.near.fallbacks == {FallbackReason.CHANNEL_BROKE: 1}
        again = memoryview(ends.two.buffer(30 * MIB))
        await ends.near.read("far", "app", pieces_of(blocks), again)
        assert again == view
        assert ends.near.reads == 1
        await ends.settle()

    run(test)


@pytest.mark.parametrize("grace", ["completes", "is broken"])
def test_nothing_lands_after_a_cancelled_read_has_ended(run, monkeypatch, grace: str):
    """Canaries, by RDMA alone: the memory is another's at once, and nothing of the old read shows in it."""
    monkeypatch.setattr(pairs, "GRACE_S", 5.0 if grace == "completes" else 0.0)
    blocks = blocks_of(16 * MIB)

    async def test(ends: Ends) -> None:
        ends.two.far_shelf.put("app", 0, 1, blocks)
        view = memoryview(ends.two.buffer(16 * MIB))
        for _ in range(4):
            view[:] = bytes(16 * MIB)
            reading = asyncio.create_task(ends.near.read("far", "app", pieces_of(blocks), view))
            await landed(ends.two, view)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            assert reading.cancelled()
            assert ends.near.device.posted == 0
            view[:] = canary = b"\xa5" * len(view)
            other = memoryview(ends.two.buffer(1 * MIB))
            await ends.near.read("far", "app", [Piece(Range(0, 1, 0, 1), 0, MIB)], other)
            assert other == blocks[0][:MIB]
            assert view == canary
        assert ends.near.fallbacks == {}

    run(test)


def test_a_channel_whose_cancelled_reads_completed_in_time_goes_on(run, monkeypatch):
    monkeypatch.setattr(pairs, "GRACE_S", 2.0)
    blocks = blocks_of(*[100_000] * 50)

    async def test(ends: Ends) -> None:
        ends.two.far_shelf.put("app", 0, 1, blocks)
        await read(ends.two, pieces_of(blocks))
        channels = ends.channels
        view = memoryview(ends.two.buffer(5_000_000))
        reading = asyncio.create_task(ends.near.read("far", "app", pieces_of(blocks), view))
        await landed(ends.two, view)
        reading.cancel()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await asyncio.sleep(2.5)
        assert ends.channels == channels
        assert channels[0].alive

    run(test)


def test_a_cancelled_read_leaves_nothing_staged(run):
    blocks = blocks_of(*[2 * MIB] * 8)

    async def test(ends: Ends) -> None:
        ends.two.far_shelf.put("app", 0, 1, blocks)
        await read(ends.two, pieces_of(blocks[:1]))
        into = memoryview(ends.two.buffer(16 * MIB))
        for turns in range(0, 40, 3):
            task = asyncio.create_task(ends.near.read("far", "app", pieces_of(blocks), into))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await ends.settle()
        assert await read(ends.two, pieces_of(blocks)) == b"".join(blocks)

    run(test)


def test_reads_that_are_cancelled_while_a_channel_is_made_leave_no_channel_at_the_owner(run):
    blocks = blocks_of(10)

    async def test(ends: Ends) -> None:
        ends.two.far_shelf.put("app", 0, 1, blocks)
        view = memoryview(ends.two.buffer(10))
        for turns in range(40):
            task = asyncio.create_task(ends.near.read("far", "app", pieces_of(blocks), view))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if turns % 2:
                ends.near.forget("app")
        assert await read(ends.two, pieces_of(blocks)) == blocks[0]
        await ends.settle()
        async with asyncio.timeout(20):
            while len(ends.far.serving) > len(ends.channels):  # noqa: ASYNC110 - the last DISCONNECT is on its way
                await asyncio.sleep(0.005)
        assert resources()["qp"] == 2 * len(ends.channels)

    run(test)


def test_memory_outside_the_slab_and_an_application_without_slab_are_read_by_tcp(run):
    blocks = blocks_of(100_000)

    async def test(ends: Ends) -> None:
        ends.two.far_shelf.put("app", 0, 1, blocks)
        into = bytearray(100_000)
        await ends.near.read("far", "app", pieces_of(blocks), memoryview(into))
        assert into == blocks[0]
        ends.near.forget("app")
        ends.two.near_shelf.memory = None
        await ends.near.read("far", "app", pieces_of(blocks), memoryview(into))
        assert ends.near.fallbacks == {FallbackReason.OUTSIDE_SLAB: 2}

    run(test)


def test_a_full_staging_area_sends_the_read_by_tcp_and_ends_no_channel(run):
    blocks = blocks_of(2 * MIB)

    async def test(ends: Ends) -> None:
        ends.two.far_shelf.put("app", 0, 1, blocks)
        assert await read(ends.two, pieces_of(blocks)) == blocks[0]
        staging = ends.far._domains["app"].staging
        assert staging
        await ends.settle()
        held = await staging.take(3 * MIB, 0)
        assert await read(ends.two, pieces_of(blocks)) == blocks[0]
        assert ends.near.fallbacks == {FallbackReason.STAGE_FULL: 1}
        staging.extents.give(held)
        assert await read(ends.two, pieces_of(blocks)) == blocks[0]
        assert ends.near.reads == 2
        assert ends.channels[0].alive

    run(test, stage_bytes=4 * MIB, channel_bytes=4 * MIB, stage_wait_s=0.05)


def test_staging_waits_for_others_room_first_come_first_served(run):
    blocks = blocks_of(*[3 * MIB] * 5)

    async def test(ends: Ends) -> None:
        ends.two.far_shelf.put("app", 0, 1, blocks)
        pieces = pieces_of(blocks)
        found = await asyncio.gather(*(read(ends.two, [piece]) for piece in pieces))
        assert list(found) == blocks
        assert ends.near.fallbacks == {}

    run(test, stage_bytes=4 * MIB, channel_bytes=4 * MIB, stage_wait_s=20.0)


def test_a_peer_that_asks_for_more_than_its_channel_may_hold_is_malformed(run):
    async def test(ends: Ends) -> None:
        ends.two.far_shelf.put("app", 0, 1, blocks_of(8 * MIB))
        await read(ends.two, [Piece(Range(0, 1, 0, 1), 0, 10)])
        (owner,) = ends.far.serving._channels
        (number,) = ends.far.serving._channels[owner]
        with pytest.raises(ShuffleFault) as error:
            await ends.far.serving.stage(owner, number, [Piece(Range(0, 1, 0, 1), 0, 5 * MIB)])
        assert error.value.reason is Reason.MALFORMED
        with pytest.raises(ShuffleFault) as error:
            await ends.far.serving.stage(object(), number, [Piece(Range(0, 1, 0, 1), 0, 5)])
        assert error.value.reason is Reason.REFUSED, "another connection's channel"

    run(test, channel_bytes=4 * MIB)


def test_a_peer_without_channels_to_give_is_read_by_tcp(run):
    blocks = blocks_of(100_000)

    async def test(ends: Ends) -> None:
        ends.far._tcp.channels = None
        ends.two.far_shelf.put("app", 0, 1, blocks)
        assert await read(ends.two, pieces_of(blocks)) == blocks[0]
        assert await read(ends.two, pieces_of(blocks)) == blocks[0]
        assert ends.near.fallbacks == {FallbackReason.PEER_HAS_NONE: 2}

    run(test, rest_s=60.0)


def test_the_limits_of_channels_and_of_pinned_memory_send_reads_by_tcp(run):
    blocks = blocks_of(100_000)

    async def test(ends: Ends) -> None:
        ends.two.far_shelf.put("app", 0, 1, blocks)
        ends.far.pinnable = lambda: 1000
        assert await read(ends.two, pieces_of(blocks)) == blocks[0]
        assert ends.near.fallbacks == {FallbackReason.PEER_HAS_NONE: 1}
        ends.far.pinnable = lambda: 1 << 30
        assert await read(ends.two, pieces_of(blocks)) == blocks[0]
        assert ends.near.reads == 1
        for shelf in (ends.two.near_shelf, ends.two.far_shelf):
            shelf.add("second", KEY)
        ends.two.far_shelf.put("second", 0, 1, blocks)
        assert await read(ends.two, pieces_of(blocks), "second") == blocks[0]
        assert ends.near.reads == 2, "the idle channel made room"
        assert len(ends.channels) == 1

    run(test, channels=1)


def test_the_end_of_an_application_takes_its_channels_and_memory_and_nothing_else(run):
    blocks = blocks_of(100_000)

    async def test(ends: Ends) -> None:
        for shelf in (ends.two.near_shelf, ends.two.far_shelf):
            shelf.add("second", OTHER_KEY)
        ends.two.far_shelf.put("app", 0, 1, blocks)
        ends.two.far_shelf.put("second", 0, 1, blocks)
        await read(ends.two, pieces_of(blocks), "second")
        before = resources()
        await read(ends.two, pieces_of(blocks))
        during = resources()
        assert during["qp"] == before["qp"] + 2
        assert during["mr"] == before["mr"] + 2
        ends.near.forget("app")
        ends.far.forget("app")
        assert resources() == before
        assert await read(ends.two, pieces_of(blocks), "second") == blocks[0]
        assert ends.near.fallbacks == {}

    run(test)


def test_two_hundred_shuffles_with_broken_channels_leave_descriptors_and_objects_flat(run):
    blocks = blocks_of(200_000, 7, 65_536)

    async def test(ends: Ends) -> None:
        ends.two.far_shelf.put("app", 0, 1, blocks)
        into = memoryview(ends.two.buffer(sum(map(len, blocks))))

        async def shuffle(number: int) -> None:
            await ends.near.read("far", "app", pieces_of(blocks), into)
            assert into == b"".join(blocks)
            if number % 10 == 3:
                ends.channels[0]._pair.fail()
            if number % 10 == 6:
                ends.near.forget("app")
                ends.far.forget("app")

        for number in range(20):
            await shuffle(number)
        before = resources()
        for number in range(20, 200):
            await shuffle(number)
        assert resources() == before
        assert ends.near.fallbacks == {}
        await ends.settle()

    run(test)


def test_closing_leaves_no_descriptor_and_no_object(tmp_path):
    async def whole() -> None:
        two = await two_by_verbs(tmp_path)
        for shelf in (two.near_shelf, two.far_shelf):
            shelf.add("app", KEY)
        blocks = blocks_of(10)
        two.far_shelf.put("app", 0, 1, blocks)
        assert await read(two, pieces_of(blocks)) == blocks[0]
        await two.near.close()
        await two.fall()
        for catalogue in two.far_shelf.catalogues.values():
            catalogue.close()
        for catalogue in two.near_shelf.catalogues.values():
            catalogue.close()

    before = resources()
    asyncio.run(whole())
    after = resources()
    assert after["fd"] <= before["fd"]
    assert {key: value for key, value in after.items() if key != "fd"} == {
        key: value for key, value in before.items() if key != "fd"
    }


def test_the_application_of_another_secret_gets_no_channel(run):
    async def test(ends: Ends) -> None:
        ends.two.near_shelf.add("other", KEY)
        ends.two.far_shelf.add("other", OTHER_KEY)
        ends.two.far_shelf.put("other", 0, 1, blocks_of(10))
        assert await refused(read(ends.two, [Piece(Range(0, 1, 0, 1), 0, 10)], "other")) is Reason.REFUSED
        assert len(ends.far.serving) == 0

    run(test)
