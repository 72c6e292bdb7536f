"""Services that are killed, stopped, starved and fed with rubbish: real processes, real sockets, real full disks."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from firesteel.rdma_shuffle.client import Client
from firesteel.rdma_shuffle.wire.blocks import FileExtent, Found, Missing, Range, SlabExtent
from firesteel.rdma_shuffle.wire.codec import frame
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.wire.messages import Blocks, Fetch, Ping, decode
from support.shuffle_node import APP, Cluster, Node, open_files, pair, settled, table_of
from support.waiting import wait_for

MIB = 1 << 20


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as made:
        yield made


def reason_of(error: pytest.ExceptionInfo[ShuffleFault]) -> Reason:
    return error.value.reason


def read_all(client: Client, blocks: Blocks) -> list[bytes]:
    return [client.read(result) for result in blocks.results]


# -- the way it should be --------------------------------------------------------------------------------------------


def test_blocks_of_this_node_are_files_and_of_another_are_shared_memory(cluster: Cluster) -> None:
    near, far = pair(cluster)
    with near.client() as a, far.client() as b:
        blocks = [secrets.token_bytes(size) for size in (1000, 0, 1, 200_000)]
        asked = far.put(b, 3, 7, blocks)
        local = b.fetch("node-b", asked)
        assert local.lease == 0
        assert read_all(b, local) == blocks
        assert {type(extent) for result in local.results if isinstance(result, Found) for extent in result.extents} == {
            FileExtent
        }
        remote = a.fetch("node-b", asked)
        assert read_all(a, remote) == blocks
        assert {
            type(extent) for result in remote.results if isinstance(result, Found) for extent in result.extents
        } == {SlabExtent}
        assert near.gauge("leases") == 1
        a.release(remote.lease)
        settled(near)


def test_a_range_of_reduces_is_one_extent_and_each_reduce_is_checked(cluster: Cluster) -> None:
    near, far = pair(cluster)
    with near.client() as a, far.client() as b:
        blocks = [secrets.token_bytes(5000) for _ in range(20)]
        far.put(b, 0, 0, blocks)
        found = a.fetch("node-b", [Range(0, 0, 5, 15)]).results[0]
        assert isinstance(found, Found)
        assert len(found.extents) == 1
        assert found.table == table_of(blocks[5:15])
        assert a.read(found) == b"".join(blocks[5:15])


def test_requests_may_be_outstanding_together_and_answers_bear_their_numbers(cluster: Cluster) -> None:
    near, far = pair(cluster)
    with near.client() as a, far.client() as b:
        blocks = {number: [secrets.token_bytes(number * 1000 + 1)] for number in range(40)}
        for number, each in blocks.items():
            far.put(b, 0, number, each)
        asked = {a.send(Fetch("node-b", 20_000, (Range(0, number, 0, 1),))): number for number in blocks}
        for _ in range(len(asked)):
            answer = a.receive()
            message = decode(answer.kind, answer.body)
            assert isinstance(message, Blocks)
            assert read_all(a, message) == blocks[asked.pop(answer.request)]
        assert not asked


def test_removals_and_ends_reach_the_nodes_that_are_named(cluster: Cluster) -> None:
    near, far = pair(cluster)
    with near.client() as a, far.client() as b:
        near.put(a, 0, 0, [b"here"])
        far.put(b, 0, 1, [b"there"])
        kept = far.put(b, 1, 1, [b"kept"])
        assert a.remove(0, ["node-a", "node-b"]).failed == ()
        assert not near.output(0, 0).exists()
        assert not far.output(0, 1).exists()
        assert read_all(b, b.fetch("node-b", kept)) == [b"kept"]
        assert a.end(["node-b"]).failed == ()
    for node in (near, far):
        assert node.contents() == set()
        assert node.slabs() == []
        assert node.status()["applications"] == []


def test_whoever_cannot_be_told_is_named(cluster: Cluster) -> None:
    near, far = pair(cluster)
    with near.client() as a:
        assert a.ping(["node-b"]).failed == (), "who does not know the application needs not be told"
        far.kill()
        told = a.ping(["node-b", "node-a", "nowhere.invalid"])
        assert told.failed == (("node-b", Reason.UNREACHABLE), ("nowhere.invalid", Reason.UNREACHABLE))


# -- kills -----------------------------------------------------------------------------------------------------------


def test_after_kill_9_and_a_restart_all_outputs_are_served_again(cluster: Cluster) -> None:
    near, far = pair(cluster)
    outputs = {number: [secrets.token_bytes(3000), b"", secrets.token_bytes(7)] for number in range(20)}
    with far.client() as b:
        for number, blocks in outputs.items():
            far.put(b, 0, number, blocks)
        far.put(b, 9, 0, [b"removed before"])
        b.remove(9)
    with near.client() as a:
        assert read_all(a, a.fetch("node-b", [Range(0, 3, 0, 3)])) == [b"".join(outputs[3])]
        far.kill()
        with pytest.raises(ShuffleFault) as error:
            a.fetch("node-b", [Range(0, 3, 0, 3)])
        assert reason_of(error) is Reason.UNREACHABLE
        far.start()
        # No executor of the application runs there any more, and nobody claims it again: its secret was kept.
        found = a.fetch("node-b", [Range(0, number, 0, 3) for number in outputs])
        assert read_all(a, found) == [b"".join(blocks) for blocks in outputs.values()]
        (gone,) = a.fetch("node-b", [Range(9, 0, 0, 1)]).results
        assert isinstance(gone, Missing)
    assert far.status()["counters"]["recovered_outputs"] == 20


def test_a_killed_service_leaves_no_shared_memory_behind_when_it_is_back(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    with node.client():
        (left,) = node.slabs()
        node.kill()
        assert left.exists()
        node.start()
        assert not left.exists()


def test_what_was_lent_stays_readable_when_the_service_is_killed_and_back(cluster: Cluster) -> None:
    near, far = pair(cluster)
    blocks = [secrets.token_bytes(100_000)]
    with far.client() as b:
        asked = far.put(b, 0, 0, blocks)
    with near.client() as a, near.client() as later:
        held = a.fetch("node-b", asked)
        assert read_all(a, held) == blocks  # maps the slab, as an executor does
        near.kill()
        near.start()
        with near.client() as fresh:
            for _ in range(5):
                assert read_all(fresh, fresh.fetch("node-b", asked)) == blocks
            assert read_all(a, held) == blocks
            fresh.release(held.lease)  # of an earlier life: ignored
            assert near.gauge("leases") == 5
        later.close()


def test_a_registration_that_was_answered_outlives_a_kill_at_any_moment(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    registered: list[int] = []

    def register() -> None:
        client = node.client()
        for number in range(100_000):
            try:
                node.put(client, 0, number, [str(number).encode()])
            except ShuffleFault:
                return
            registered.append(number)

    for _ in range(3):
        registered.clear()
        thread = threading.Thread(target=register)
        thread.start()
        wait_for(lambda: len(registered) > 50, "registrations")
        node.kill()
        thread.join()
        node.start()
        with node.client() as client:
            found = client.fetch("node-a", [Range(0, number, 0, 1) for number in registered])
            assert read_all(client, found) == [str(number).encode() for number in registered]
            client.remove(0)


def test_a_peer_killed_in_mid_read_is_a_reason_and_the_memory_comes_back(cluster: Cluster) -> None:
    near, far = pair(cluster, "--slab-bytes", "16m")
    with near.client() as a, far.client() as b:
        asked = [far.put(b, 0, number, [secrets.token_bytes(8 * MIB)])[0] for number in range(16)]
        before = far.status()["counters"]
        a.send(Fetch("node-b", 60_000, tuple(asked)))
        wait_for(lambda: near.gauge("in_flight_bytes") > 0, "the read is on its way")
        far.kill()
        answer = a.receive()
        message = decode(answer.kind, answer.body)
        assert before
        missing = [each for each in getattr(message, "results", ()) if isinstance(each, Missing)]
        failed = {each.reason for each in missing} or {getattr(message, "reason", None)}
        assert failed == {Reason.UNREACHABLE}
        assert all(a.read(each) for each in getattr(message, "results", ()) if isinstance(each, Found)), (
            "what had arrived before is whole"
        )
        if isinstance(message, Blocks):
            a.release(message.lease)
        settled(near)


def test_a_stopped_peer_costs_the_time_that_was_given_and_is_used_again_when_it_goes_on(
    cluster: Cluster,
) -> None:
    near, far = pair(cluster, "--stall", "3")
    with near.client() as a, far.client() as b:
        blocks = [secrets.token_bytes(4 * MIB)]
        asked = far.put(b, 0, 0, blocks)
        assert read_all(a, a.fetch("node-b", asked)) == blocks
        far.send(signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(ShuffleFault) as error:
            a.fetch("node-b", asked, seconds=1)
        assert reason_of(error) is Reason.TIMEOUT
        assert time.monotonic() - start < 20
        far.send(signal.SIGCONT)
        assert read_all(a, a.fetch("node-b", asked)) == blocks


def test_a_peer_that_owes_an_answer_and_sends_nothing_is_given_up(cluster: Cluster) -> None:
    near, far = pair(cluster, "--stall", "1")
    with near.client() as a, far.client() as b:
        asked = far.put(b, 0, 0, [b"x" * 1000])
        a.fetch("node-b", asked)
        far.send(signal.SIGSTOP)
        with pytest.raises(ShuffleFault) as error:
            a.fetch("node-b", asked, seconds=25)
        assert reason_of(error) is Reason.UNREACHABLE, "long before the time that was given"


def test_a_dead_process_gives_back_what_it_held_and_a_lost_connection_does_not(cluster: Cluster) -> None:
    near, far = pair(cluster)
    with far.client() as b:
        far.put(b, 0, 0, [secrets.token_bytes(100_000)])
    code = (
        "import sys; from pathlib import Path; from firesteel.rdma_shuffle.client import Client;"
        "from firesteel.rdma_shuffle.wire.blocks import Range\n"
        "key = bytes.fromhex(sys.stdin.readline())\n"
        f"c = Client(Path(sys.argv[1])); c.hello({APP!r}, key)\n"
        "c.fetch('node-b', [Range(0, 0, 0, 1)])\n"
        "c.close(); print('held', flush=True); sys.stdin.readline()"
    )
    with near.client() as a:
        holder = subprocess.Popen(
            [sys.executable, "-c", code, str(near.socket)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert holder.stdin
        assert holder.stdout
        print(cluster.key.hex(), file=holder.stdin, flush=True)
        assert holder.stdout.readline() == "held\n"
        # Its connection is closed, and answers to others show that the service has seen that.
        wait_for(lambda: near.status()["applications"][0]["connections"] == 1, "the connection's end")
        assert near.gauge("leases") == 1
        assert near.gauge("lent_bytes") >= 100_000
        holder.kill()
        holder.communicate()
        settled(near)
        assert near.status()["counters"]["clients_died"] == 1
        a.ping()


def test_a_client_that_goes_away_while_blocks_are_located_leaves_nothing_held(cluster: Cluster) -> None:
    near, far = pair(cluster, "--slab-bytes", "16m")
    with near.client() as keeps, far.client() as b:
        asked = far.put(b, 0, 0, [secrets.token_bytes(12 * MIB)])
        far.send(signal.SIGSTOP)
        clients = [near.client() for _ in range(3)]
        for client in clients:
            client.send(Fetch("node-b", 60_000, tuple(asked)))
        wait_for(lambda: near.gauge("connections") >= 4, "all are connected")
        for client in clients:
            client.close()
        far.send(signal.SIGCONT)
        settled(near)
        held = keeps.fetch("node-b", asked)
        assert isinstance(held.results[0], Found)
        assert isinstance(held.results[0].extents[0], SlabExtent)


def test_a_client_that_goes_away_in_mid_read_leaves_nothing_held(cluster: Cluster) -> None:
    near, far = pair(cluster, "--slab-bytes", "16m", "--slab-wait", "0.01")
    with far.client() as b:
        asked = [far.put(b, 0, number, [secrets.token_bytes(4 * MIB)])[0] for number in range(24)]
    for _ in range(20):
        with near.client() as client:
            number = client.send(Fetch("node-b", 60_000, tuple(asked)))
            wait_for(lambda: near.gauge("in_flight_bytes") > 0 or near.gauge("leases") > 0, "the fetch has begun")
            far.send(signal.SIGSTOP)
            if near.gauge("leases"):  # it was faster than we: give back, and again
                far.send(signal.SIGCONT)
                answer = client.receive()
                message = decode(answer.kind, answer.body)
                assert answer.request == number
                assert isinstance(message, Blocks)
                client.release(message.lease)
                settled(near)
                continue
        wait_for(lambda: near.gauge("fenced_bytes") + near.gauge("lent_bytes") == 0, "what was being filled is free")
        assert near.status()["counters"]["fences"] > 0
        far.send(signal.SIGCONT)
        settled(near)
        break
    else:
        pytest.fail("no fetch was met in its middle")
    with near.client() as client:
        held = client.fetch("node-b", asked[:1])
        assert isinstance(held.results[0], Found)
        assert isinstance(held.results[0].extents[0], SlabExtent), "the slab is whole again"


# -- flipped bits ----------------------------------------------------------------------------------------------------


def test_a_bit_that_flipped_on_the_owner_s_disk_is_caught(cluster: Cluster) -> None:
    near, far = pair(cluster)
    with near.client() as a, far.client() as b:
        asked = far.put(b, 0, 0, [b"x" * 1000, b"y" * 1000])
        data = bytearray(far.output(0, 0).read_bytes())
        data[1500] ^= 1
        far.output(0, 0).write_bytes(data)
        for client in (a, b):
            found = client.fetch("node-b", asked).results
            assert client.read(found[0]) == b"x" * 1000
            with pytest.raises(ShuffleFault) as error:
                client.read(found[1])
            assert reason_of(error) is Reason.CORRUPT


def test_a_bit_that_flipped_in_shared_memory_is_caught(cluster: Cluster) -> None:
    near, far = pair(cluster)
    with near.client() as a, far.client() as b:
        asked = far.put(b, 0, 0, [b"x" * 1000])
        held = a.fetch("node-b", asked)
        (found,) = held.results
        assert isinstance(found, Found)
        (extent,) = found.extents
        assert isinstance(extent, SlabExtent)
        (slab,) = near.slabs()
        with slab.open("r+b") as file:
            file.seek(extent.offset + 10)
            file.write(b"z")
        with pytest.raises(ShuffleFault) as error:
            a.read(found)
        assert reason_of(error) is Reason.CORRUPT


class Meddler:
    """Between two services: passes bytes on, and changes one in the stream from the owner."""

    def __init__(self, port: int, at: int) -> None:
        self._target, self._at, self.passed = port, at, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            theirs = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._pass, args=(ours, theirs, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(theirs, ours, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, meddle: bool) -> None:
        try:
            while data := bytearray(source.recv(65536)):
                if meddle:
                    if self.passed <= self._at < self.passed + len(data):
                        data[self._at - self.passed] ^= 4
                    self.passed += len(data)
                target.sendall(data)
        except OSError:
            pass
        finally:
            for each in (source, target):
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    each.close()

    def close(self) -> None:
        self._listener.close()


@pytest.mark.parametrize(
    ("at", "reasons"), [(20, None), (90, None), (115, None), (150, None), (200, None), (2_000, {Reason.CORRUPT})]
)
def test_a_bit_that_flipped_on_the_wire_is_caught(cluster: Cluster, at: int, reasons: set[Reason] | None) -> None:
    """In GREET, AUTHENTICATED, ATTACHED, LOCATED, DATA: by a proof or a tag, and the connection ends. In the data: by CRC32C."""
    way = ["--transport", "tcp"] if reasons else []  # by RDMA, data pass by the one who meddles
    far = cluster.node("node-b", *way).start()
    meddler = Meddler(far.port, at)
    near = cluster.node("node-a", *way, "--peer", f"node-b=127.0.0.1:{meddler.port}", "--stall", "2").start()
    with near.client() as a, far.client() as b:
        asked = far.put(b, 0, 0, [secrets.token_bytes(10_000)])
        with pytest.raises(ShuffleFault) as error:
            read_all(a, a.fetch("node-b", asked, seconds=8))
        assert reason_of(error) in (reasons or set(Reason) - {Reason.CORRUPT})
        assert len(read_all(a, a.fetch("node-b", asked))[0]) == 10_000, "the next connection is a good one"
    meddler.close()


# -- limits ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "none", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_refuses_outputs_cleanly_and_takes_them_again_when_there_is_room(
    cluster: Cluster, small_disk: Path
) -> None:
    node = cluster.node("node-a")
    node.folder = small_disk / "folder"
    node.start()
    with node.client() as client:
        kept = node.put(client, 0, 0, [b"x" * 1000])
        before = (small_disk / "folder" / APP / ".service" / "journal").stat().st_size
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(4096))
        # An output of no bytes needs only the journal, whose page is full after some of them.
        with pytest.raises(ShuffleFault) as error:
            for number in range(1, 10_000):
                client.register(1, number, "", "", table_of([b""] * 50))
        assert reason_of(error) is Reason.NO_SPACE
        assert read_all(client, client.fetch("node-a", kept)) == [b"x" * 1000]
        filler.unlink()
        node.put(client, 2, 0, [b"again"])
        assert (small_disk / "folder" / APP / ".service" / "journal").stat().st_size > before
        node.kill()
        node.start()
    with node.client() as client:
        assert read_all(client, client.fetch("node-a", [*kept, Range(2, 0, 0, 1)])) == [b"x" * 1000, b"again"]


def test_full_shared_memory_costs_the_slab_and_not_the_fetch(cluster: Cluster, small_disk: Path) -> None:
    far = cluster.node("node-b").start()
    near = cluster.node("node-a", "--shm", str(small_disk), "--slab-bytes", "8m").start()
    with near.client() as a, far.client() as b:
        assert a.welcome
        assert a.welcome.slabs == ()
        assert list(small_disk.iterdir()) == []
        blocks = [secrets.token_bytes(100_000)]
        held = a.fetch("node-b", far.put(b, 0, 0, blocks))
        assert read_all(a, held) == blocks
        assert near.status()["counters"]["slabs_refused"] == 1
        assert near.gauge("spool_bytes") == 100_000
        a.release(held.lease)
        settled(near)
        assert not list((near.folder / APP / ".service" / "spool").iterdir())


def test_a_full_disk_under_the_spool_is_no_space(cluster: Cluster, small_disk: Path) -> None:
    far = cluster.node("node-b").start()
    near = cluster.node("node-a", "--slab-bytes", "0")
    near.folder = small_disk / "folder"
    near.start()
    with near.client() as a, far.client() as b:
        asked = [far.put(b, 0, number, [secrets.token_bytes(3 * MIB)])[0] for number in range(2)]
        small = far.put(b, 1, 0, [b"small"])
        for result in a.fetch("node-b", asked).results:
            assert isinstance(result, Missing)
            assert result.reason is Reason.NO_SPACE
        assert read_all(a, a.fetch("node-b", small)) == [b"small"]


def test_pinned_memory_is_bounded_over_applications_and_visible(cluster: Cluster) -> None:
    node = cluster.node("node-a", "--slab-bytes", "1m", "--pinned-bytes", "2m").start()
    clients = [node.client(f"app-{number}", secrets.token_bytes(32)) for number in range(3)]
    welcomes = [client.welcome for client in clients]
    assert [len(welcome.slabs) for welcome in welcomes if welcome] == [1, 1, 0]
    assert node.gauge("pinned_bytes") == node.gauge("pinned_bytes_limit") == 2 * MIB
    assert len(node.slabs()) == 2
    clients[0].end()
    assert node.gauge("pinned_bytes") == MIB
    for client in clients:
        client.close()


def test_blocks_larger_than_the_slab_and_more_blocks_than_it_holds_arrive(cluster: Cluster) -> None:
    near, far = pair(
        cluster, "--slab-bytes", "1m", "--slab-wait", "0.05", "--in-flight-bytes", "2m", "--credit-bytes", "64k"
    )
    with near.client() as a, far.client() as b:
        blocks = [secrets.token_bytes(size) for size in (3 * MIB, 400_000, 400_000, 400_000, 400_000, 10)]
        held = a.fetch("node-b", far.put(b, 0, 0, blocks))
        assert read_all(a, held) == blocks
        kinds = {type(extent) for result in held.results if isinstance(result, Found) for extent in result.extents}
        assert kinds == {FileExtent, SlabExtent}
        assert near.gauge("spool_bytes") >= 3 * MIB
        a.release(held.lease)
        settled(near)


def test_disk_connections_and_applications_are_bounded_and_say_so(cluster: Cluster) -> None:
    node = cluster.node("node-a", "--disk-bytes", "1000", "--applications", "1", "--connections", "3").start()
    with node.client() as client:
        node.put(client, 0, 0, [b"x" * 900])
        with pytest.raises(ShuffleFault) as error:
            node.put(client, 0, 1, [b"x" * 101])
        assert reason_of(error) is Reason.NO_SPACE
        client.remove(0)
        node.put(client, 0, 1, [b"x" * 101])
        with Client(node.socket) as other:
            with pytest.raises(ShuffleFault) as error:
                other.claim("another", secrets.token_bytes(32))
            assert reason_of(error) is Reason.NO_SPACE
            with Client(node.socket), Client(node.socket) as fourth, pytest.raises(ShuffleFault) as error:
                fourth.status()
            assert reason_of(error) in {Reason.NO_SPACE, Reason.UNREACHABLE}
        wait_for(lambda: client.ping().failed == () and node.gauge("connections") <= 2, "room for others again")
    assert node.status()["counters"]["connections_refused"] == 1
    assert node.status()["faults"]["NO_SPACE"] == 2


def test_an_application_of_which_nothing_is_heard_ends_and_one_that_is_pinged_by_a_peer_lives(cluster: Cluster) -> None:
    near, far = pair(cluster, "--lease", "2")
    with near.client() as driver:
        with far.client() as executor:
            asked = far.put(executor, 0, 0, [b"outlives its executor"])
        with far.client("silent", secrets.token_bytes(32)):
            pass

        def only_ours_is_left() -> bool:
            assert driver.ping(["node-b"]).failed == ()
            return [each["name"] for each in far.status()["applications"]] == [APP]

        wait_for(only_ours_is_left, "the silent application ends")
        assert read_all(driver, driver.fetch("node-b", asked)) == [b"outlives its executor"]
        assert far.status()["counters"]["applications_expired"] == 1
        assert not (far.folder / "silent").exists()
    wait_for(lambda: not far.status()["applications"], "a driver that is gone leaks nothing")
    assert far.contents() == set()


def test_files_memory_and_connections_are_flat_over_many_shuffles(cluster: Cluster) -> None:
    near, far = pair(cluster, "--slab-bytes", "1m")
    with near.client() as a, far.client() as b:

        def shuffle(number: int) -> None:
            blocks = [secrets.token_bytes(20_000) for _ in range(4)]
            held = a.fetch("node-b", far.put(b, number, 0, blocks))
            assert read_all(a, held) == blocks
            a.release(held.lease)
            assert a.remove(number, ["node-b"]).failed == ()

        for number in range(20):
            shuffle(number)
        settled(near)
        before = open_files(near), open_files(far)
        for number in range(20, 220):
            shuffle(number)
        settled(near)
        # Whoever asks for figures is a connection too, and may not be gone yet.
        wait_for(lambda: open_files(near) <= before[0] and open_files(far) <= before[1], "no file more than before")
        assert far.gauge("outputs") == 0
        assert far.gauge("disk_bytes") == 0
        assert not list((far.folder / APP).glob("*.data"))


# -- rubbish ---------------------------------------------------------------------------------------------------------


def raw(node: Node, where: str) -> socket.socket:
    if where == "unix":
        made = socket.socket(socket.AF_UNIX)
        made.connect(str(node.socket))
    else:
        made = socket.create_connection(("127.0.0.1", node.port))
    made.settimeout(20)
    return made


def to_the_end(made: socket.socket) -> bytes:
    data = b""
    try:
        while piece := made.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


@pytest.mark.parametrize("where", ["unix", "tcp"])
@pytest.mark.parametrize(
    "rubbish",
    [
        pytest.param(b"\xff" * 100, id="a length of four milliards"),
        pytest.param(b"\0" * 100, id="a length of nothing"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="another protocol"),
        pytest.param(frame(99, 1, b""), id="an unknown type"),
        pytest.param(frame(11, 1, b"\0\0"), id="PING before HELLO"),
        pytest.param(frame(37, 1, bytes(8)), id="LOCATE before AUTHENTICATE"),
        pytest.param(frame(3, 1, b"\0"), id="a cut HELLO"),
        pytest.param(frame(33, 1, b"\0"), id="a cut AUTHENTICATE"),
        pytest.param(frame(40, 1, bytes(8)), id="DATA that nobody asked for"),
    ],
)
def test_rubbish_ends_its_own_connection_and_nothing_else(cluster: Cluster, where: str, rubbish: bytes) -> None:
    node = cluster.node("node-a").start()
    with node.client() as client, raw(node, where) as made:
        made.sendall(rubbish)
        told = to_the_end(made)
        assert told[4] in {1, 32}, "it begins with CHALLENGE or GREET"
        assert told[11 + 32 :][4:5] in {b"\x0d", b""}, "and ends with ERROR"
        assert client.ping().failed == ()


def test_random_bytes_after_hello_never_stop_the_service(cluster: Cluster) -> None:
    import random

    node = cluster.node("node-a").start()
    random_ = random.Random(7)
    resident = node.gauge("resident_bytes")
    with node.client() as good:
        for _ in range(60):
            bad = node.client()
            kind = random_.choice([*range(17), 200])
            bad._socket.sendall(frame(kind, 1, random_.randbytes(random_.randrange(200))) + random_.randbytes(50))
            bad._socket.shutdown(socket.SHUT_WR)
            to_the_end(bad._socket)
            bad.close()
        assert good.ping().failed == ()
        wait_for(lambda: node.gauge("connections") <= 2, "the bad ones are gone")
    assert node.gauge("resident_bytes") < resident + 64 * MIB


def test_a_client_that_asks_without_reading_is_held_up_and_no_other(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    with node.client() as good, node.client() as bad:
        node.put(good, 0, 0, [b"x"] * 20_000)
        request = Fetch("node-a", 1000, (Range(0, 0, 0, 20_000),) * 26)
        data = frame(request.kind, 1, request.body())
        bad._socket.settimeout(0.5)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 1_000_000:
                bad._socket.sendall(data)
                sent += 1
        assert good.ping().failed == ()
        assert sent < 2000
        assert node.gauge("resident_bytes") < 1 << 30


def test_ping_is_answered_while_a_long_fetch_waits(cluster: Cluster) -> None:
    near, far = pair(cluster)
    with near.client() as a, far.client() as b:
        asked = far.put(b, 0, 0, [b"x" * 1000])
        far.send(signal.SIGSTOP)
        slow = a.send(Fetch("node-b", 60_000, tuple(asked)))
        quick = a.send(Ping())
        assert a.receive().request == quick
        far.send(signal.SIGCONT)
        assert a.receive().request == slow


# -- operation -------------------------------------------------------------------------------------------------------


def test_a_second_service_on_a_folder_is_refused_and_the_first_goes_on(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    second = subprocess.run(
        [sys.executable, "-m", "firesteel.rdma_shuffle.service", *node.args()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 1
    assert "FS9109" in second.stderr
    assert "is in use by another service" in second.stderr
    with node.client() as client:
        client.ping()


def test_sigterm_ends_in_order_and_keeps_outputs(cluster: Cluster) -> None:
    node = cluster.node("node-a").start()
    with node.client() as client:
        asked = node.put(client, 0, 0, [b"kept"])
        (slab,) = node.slabs()
        assert node.stop() == 0
        assert not slab.exists()
        assert not node.socket.exists()
    node.start()
    with node.client() as client:
        assert read_all(client, client.fetch("node-a", asked)) == [b"kept"]


def test_the_command_tells_the_status_and_prometheus_reads_the_metrics(cluster: Cluster) -> None:
    import json

    node = cluster.node("node-a")
    node.options += ["--metrics", str(node.base / "m")]
    node.start()
    with node.client() as client:
        node.put(client, 0, 0, [b"abc"])
        told = subprocess.run(
            [sys.executable, "-m", "firesteel.rdma_shuffle.service", "--status", "--socket", str(node.socket)],
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(told.stdout)
        assert found["applications"][0]["bytes"] == 3
        assert found["gauges"]["outputs"] == 1
        assert cluster.key.hex() not in told.stdout
        assert os.stat(node.base / "m").st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as made:
            made.connect(str(node.base / "m"))
            made.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = to_the_end(made).decode()
        assert text.startswith("HTTP/1.0 200 OK\r\n")
        assert "\nfiresteel_shuffle_registered_bytes_total 3\n" in text


def test_the_status_of_nothing_is_an_error_that_says_so(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "firesteel.rdma_shuffle.service", "--status", "--socket", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert "FS9102" in told.stderr


def test_an_application_that_ends_in_mid_fetch_takes_its_memory_with_it_and_no_other_s(cluster: Cluster) -> None:
    near, far = pair(cluster, "--slab-bytes", "16m")
    other_key = secrets.token_bytes(32)
    with near.client() as a, near.client() as ends, far.client() as b, near.client("other", other_key) as other:
        with far.client("other", other_key) as other_there:
            others = far.put(other_there, 0, 0, [b"y" * 100_000], "other")
        held = other.fetch("node-b", others)
        asked = far.put(b, 0, 0, [secrets.token_bytes(12 * MIB)])
        far.send(signal.SIGSTOP)
        a.send(Fetch("node-b", 60_000, tuple(asked)))
        wait_for(lambda: near.gauge("peer_links") > 0, "the fetch is on its way")
        ends.end()
        assert [each["name"] for each in near.status()["applications"]] == ["other"]
        far.send(signal.SIGCONT)
        with pytest.raises(ShuffleFault) as error:
            a.ask(Ping())
        assert reason_of(error) in {Reason.UNKNOWN_APPLICATION, Reason.UNREACHABLE, Reason.TIMEOUT, Reason.MALFORMED}
        assert other.read(held.results[0]) == b"y" * 100_000
        assert len(near.slabs()) == 1
        assert not (near.folder / APP).exists()
