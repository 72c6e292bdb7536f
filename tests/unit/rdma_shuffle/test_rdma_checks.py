"""`firesteel doctor --rdma` on a machine that has no RDMA device, or a wrong one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from firesteel.conf.check import Check
from firesteel.jobs.cli.main import invoke
from firesteel.rdma_shuffle.checks import rdma_checks
from firesteel.rdma_shuffle.service import main
from firesteel.rdma_shuffle.settings import Limits
from support.rdma import RDMA_DEVICES


def found(root: Path, subject: str, pinned: int = 1 << 20) -> Check:
    (check,) = [each for each in rdma_checks(Limits(pinned_bytes=pinned), root) if each.subject == subject]
    return check


def test_no_device_fails_with_advice(tmp_path: Path) -> None:
    assert found(tmp_path, "device").state == "fail"
    assert found(tmp_path, "address").state == "fail"


def test_a_port_that_is_down_says_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "mlx5_0" / "ports" / "1"
    (folder / "gids").mkdir(parents=True)
    (folder / "state").write_text("1: DOWN\n")
    (folder / "rate").write_text("100 Gb/sec (4X EDR)\n")
    (folder / "link_layer").write_text("Ethernet\n")
    check = found(tmp_path, "mlx5_0/1")
    assert check.state == "note"
    assert "DOWN 100 Gb/sec (4X EDR) (Ethernet), 0 addresses" in check.found
    assert "Bring up the link" in check.advice
    assert "DOWN" in found(tmp_path, "address").found


def test_more_memory_than_there_is_is_noted_with_the_command(tmp_path: Path) -> None:
    check = found(tmp_path, "shared memory", pinned=1 << 60)
    assert check.state == "note"
    assert "remount,size=1152921504606846976" in check.advice


@pytest.mark.skipif(bool(RDMA_DEVICES), reason="this machine has RDMA devices")
def test_the_command_ends_with_1_where_verbs_cannot_be_used(capsys) -> None:
    assert invoke(["doctor", "--rdma", "--json"]) == 1
    assert {each["subject"] for each in json.loads(capsys.readouterr().out)} >= {"pyverbs", "memlock", "huge pages"}


@pytest.mark.skipif(bool(RDMA_DEVICES), reason="this machine has RDMA devices")
def test_a_service_that_must_have_verbs_does_not_start_without(tmp_path: Path, capsys) -> None:
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_bytes(b"s" * 32)
    words = ["--socket", str(tmp_path / "s"), "--folder", str(tmp_path / "f"), "--cluster-secret", str(secret)]
    assert main([*words, "--transport", "verbs", "--listen", "127.0.0.1:0"]) != 0
    said = capsys.readouterr().err
    assert "FS9111" in said
    assert "RDMA device" in said
    assert not (tmp_path / "s").exists()
