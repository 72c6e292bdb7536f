"""The transport over real verbs, in a guest with two Soft-RoCE devices: the contract, and what only RDMA can do wrong."""

from __future__ import annotations

import pytest

from guest.boot import Guest
from support.guests import guest_kernel, pytest_in


@pytest.mark.timeout(560)
def test_the_contract_and_the_channels_hold_on_real_verbs(tmp_path) -> None:
    args = ["tests/contract/test_shuffle_transport.py", "tests/rdma/inside/test_channels.py", "-k", "verbs or channels"]
    with Guest(guest_kernel(), tmp_path / "share", memory_mib=1536) as guest:
        found = pytest_in(guest, args, 500)
    assert sum("test_shuffle_transport" in name and "verbs" in name for name in found) >= 25
    assert sum("test_channels" in name for name in found) >= 15
