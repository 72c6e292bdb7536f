"""Real services that read from each other by verbs: what they say, what they lose, and what is left when they are done."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from firesteel.rdma_shuffle.checks import rdma_checks
from firesteel.rdma_shuffle.wire.blocks import Found, Missing
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault
from firesteel.rdma_shuffle.wire.messages import Blocks, Fetch, decode
from support.rdma import RDMA_DEVICES
from support.shuffle_node import Cluster, Node, settled
from support.waiting import wait_for

MIB = 1 << 20
TINY_MEMLOCK = ["prlimit", "--memlock=65536:65536", "setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path) as made:
        yield made


def pair(
    cluster: Cluster, *options: str, near: list[str] | None = None, far: list[str] | None = None
) -> tuple[Node, Node]:
    """Two nodes, each on a device of its own if there are two."""
    ways = (near, far)
    nodes = []
    for name, device, own in zip(("node-a", "node-b"), (RDMA_DEVICES * 2)[:2], ways, strict=True):
        args = own if own is not None else ["--transport", "verbs", "--device", device]
        nodes.append(cluster.node(name, *args, *options))
    return nodes[0].start(), nodes[1].start()


def read_all(client, blocks: Blocks) -> list[bytes]:
    return [client.read(result) for result in blocks.results]


def test_blocks_come_by_rdma_and_the_status_says_so(cluster: Cluster) -> None:
    near, far = pair(cluster)
    with near.client() as a, far.client() as b:
        blocks = [secrets.token_bytes(size) for size in (1000, 0, 1, 200_000, 6 * MIB)]
        asked = far.put(b, 3, 7, blocks)
        remote = a.fetch("node-b", asked)
        assert read_all(a, remote) == blocks
        told = near.status()
        assert told["transport"] == "verbs"
        assert told["verbs"]["device"] == RDMA_DEVICES[0]
        assert told["verbs"]["fallbacks"] == {}
        assert told["gauges"]["verbs_bytes"] == told["counters"]["remote_bytes"] == sum(map(len, blocks))
        assert (told["gauges"]["channels"], told["gauges"]["registrations"]) == (1, 1)
        assert far.gauge("staging_bytes") == 32 * MIB
        assert far.gauge("pinned_bytes") == (64 + 32) * MIB, "what is staged counts as pinned"
        a.release(remote.lease)
        settled(near)
        wait_for(lambda: far.gauge("staged_bytes") == 0, "all that was staged is given back")
        assert a.end(["node-b"]).failed == ()
    for node in (near, far):
        wait_for(lambda node=node: node.gauge("channels") == 0, "the channel ended with the application")
        assert (node.gauge("registrations"), node.gauge("staging_bytes"), node.gauge("pinned_bytes")) == (0, 0, 0)


def test_a_service_that_is_killed_in_mid_read_is_unreachable_and_its_next_life_is_read_by_rdma(
    cluster: Cluster,
) -> None:
    near, far = pair(cluster, "--slab-bytes", "48m")
    with near.client() as a, far.client() as b:
        asked = [far.put(b, 0, number, [secrets.token_bytes(8 * MIB)])[0] for number in range(5)]
        blocks = [far.output(0, number).read_bytes() for number in range(5)]
        a.release(a.fetch("node-b", asked[:1]).lease)
        number = a.send(Fetch("node-b", 60_000, tuple(asked)))
        wait_for(lambda: near.gauge("channel_requests") > 0, "a READ is on its way")
        far.kill()
        answer = a.receive()
        assert answer.request == number
        message = decode(answer.kind, answer.body)
        missing = [each for each in getattr(message, "results", ()) if isinstance(each, Missing)]
        assert ({each.reason for each in missing} or {getattr(message, "reason", None)}) == {Reason.UNREACHABLE}
        assert all(a.read(each) for each in getattr(message, "results", ()) if isinstance(each, Found))
        if isinstance(message, Blocks):
            a.release(message.lease)
        settled(near)
        assert near.gauge("channel_requests") == 0
        wait_for(lambda: near.gauge("channels") == 0, "the channel ended with the connection")
        far.start()
        before = near.gauge("verbs_bytes")
        assert read_all(a, a.fetch("node-b", asked)) == blocks
        assert near.gauge("verbs_bytes") == before + 40 * MIB
        assert near.status()["verbs"]["fallbacks"] == {}


def test_a_stopped_service_costs_the_time_that_was_given_and_no_memory(cluster: Cluster) -> None:
    near, far = pair(cluster, "--stall", "30")
    with near.client() as a, far.client() as b:
        blocks = [secrets.token_bytes(4 * MIB)]
        asked = far.put(b, 0, 0, blocks)
        a.release(a.fetch("node-b", asked).lease)
        far.send(signal.SIGSTOP)
        with pytest.raises(ShuffleFault) as error:
            a.fetch("node-b", asked, seconds=1)
        assert error.value.reason is Reason.TIMEOUT
        settled(near)
        far.send(signal.SIGCONT)
        assert read_all(a, a.fetch("node-b", asked)) == blocks
        wait_for(lambda: far.gauge("staged_bytes") == 0, "also what was asked for and not waited for is given back")


@pytest.mark.parametrize(("side", "reason"), [("near", "no_memory"), ("far", "peer_has_none")])
def test_a_tiny_memlock_limit_sends_blocks_by_tcp(cluster: Cluster, side: str, reason: str) -> None:
    near, far = cluster.node("node-a"), cluster.node("node-b")
    (near if side == "near" else far).wrapper = TINY_MEMLOCK
    near.start()
    far.start()
    with near.client() as a, far.client() as b:
        blocks = [secrets.token_bytes(1 * MIB)]
        asked = far.put(b, 0, 0, blocks)
        for _ in range(3):
            got = a.fetch("node-b", asked)
            assert read_all(a, got) == blocks
            a.release(got.lease)
        assert near.status()["verbs"]["fallbacks"] == {reason: 3}
        assert near.gauge("verbs_bytes") == 0
    log = near.log.read_text()
    assert log.count("come by TCP") == 1, "said once"
    assert "memlock" in log


@pytest.mark.parametrize("tcp_side", ["near", "far"])
def test_a_cluster_in_which_one_node_has_no_verbs(cluster: Cluster, tcp_side: str) -> None:
    near, far = pair(cluster, **{tcp_side: ["--transport", "tcp"]})
    with near.client() as a, far.client() as b:
        blocks = [secrets.token_bytes(1 * MIB)]
        assert read_all(a, a.fetch("node-b", far.put(b, 0, 0, blocks))) == blocks
        assert read_all(b, b.fetch("node-a", near.put(a, 0, 0, blocks))) == blocks
    tcp, verbs = (near, far) if tcp_side == "near" else (far, near)
    assert tcp.status()["verbs"]["reason"] == "switched_off"
    assert verbs.status()["verbs"]["fallbacks"] == {"peer_has_none": 1}


def test_the_doctor_reads_from_itself_and_notes_nothing_but_speed() -> None:
    checks = {check.subject: check for check in rdma_checks()}
    assert {check.state for check in checks.values()} <= {"ok", "note"}
    assert checks["address"].found.startswith(f"{RDMA_DEVICES[0]}/1, GID ")
    assert checks["loopback"].found.count("MiB/s") == 3
    assert " 0 MiB/s" not in checks["loopback"].found
