from __future__ import annotations

from firesteel.rdma_shuffle.transport.verbs.rdma_state import probe


def device(root, name, state, gids):
    port = root / name / "ports" / "1"
    (port / "gids").mkdir(parents=True)
    (port / "state").write_text(f"4: {state}\n")
    (port / "rate").write_text("100 Gb/sec (4X EDR)\n")
    (port / "link_layer").write_text("Ethernet\n")
    for index, gid in enumerate(gids):
        (port / "gids" / str(index)).write_text(gid + "\n")


def test_a_machine_without_devices_has_no_ports(tmp_path):
    assert probe(tmp_path / "absent", tmp_path).ports == ()


def test_a_port_is_usable_when_it_is_active_and_has_an_address(tmp_path):
    device(
        tmp_path,
        "mlx5_0",
        "ACTIVE",
        ["fe80:0000:0000:0000:0000:0000:0000:0001", "0000:0000:0000:0000:0000:0000:0000:0000"],
    )
    state = probe(tmp_path, tmp_path)
    assert (state.ports[0].device, state.ports[0].state, state.ports[0].gids, state.usable) == (
        "mlx5_0",
        "ACTIVE",
        1,
        True,
    )


def test_a_port_that_is_down_or_without_address_is_not_usable(tmp_path):
    device(tmp_path, "a", "DOWN", ["fe80:0000:0000:0000:0000:0000:0000:0001"])
    device(tmp_path, "b", "ACTIVE", ["0000:0000:0000:0000:0000:0000:0000:0000"])
    assert not probe(tmp_path, tmp_path).usable


def test_this_machine_can_be_looked_at():
    assert probe().shm_bytes > 0
