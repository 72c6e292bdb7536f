"""Which device, port and address is used, and what is said when none can be: from a sysfs of files."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from firesteel.conf.errors import FiresteelError
from firesteel.rdma_shuffle.transport.verbs.device_port import choose_port
from firesteel.rdma_shuffle.transport.verbs.library import SYSTEM
from firesteel.rdma_shuffle.transport.verbs.unavailable import FallbackReason, VerbsUnavailable

V4 = "0000:0000:0000:0000:0000:ffff:0a4d:0001"
LINK_LOCAL = "fe80:0000:0000:0000:805c:49ff:fe86:9425"
GLOBAL_V6 = "2001:0db8:0000:0000:0000:0000:0000:0001"
EMPTY = "0000:0000:0000:0000:0000:0000:0000:0000"
PREFIX_ONLY = "fe80:0000:0000:0000:0000:0000:0000:0000"
V1, V2 = "IB/RoCE v1", "RoCE v2"


def port(
    root: Path,
    device: str,
    gids: list[tuple[str, str]],
    *,
    state: str = "4: ACTIVE",
    layer: str = "Ethernet",
    node: str = "1: CA",
    number: int = 1,
) -> None:
    folder = root / device / "ports" / str(number)
    (folder / "gids").mkdir(parents=True)
    (folder / "gid_attrs" / "types").mkdir(parents=True)
    (root / device / "node_type").write_text(node + "\n")
    (folder / "state").write_text(state + "\n")
    (folder / "link_layer").write_text(layer + "\n")
    for index, (gid, kind) in enumerate(gids):
        (folder / "gids" / str(index)).write_text(gid + "\n")
        (folder / "gid_attrs" / "types" / str(index)).write_text(kind + "\n")


def why(root: Path, *asked: object) -> tuple[FallbackReason, str]:
    with pytest.raises(VerbsUnavailable) as error:
        choose_port(*asked, root=root)
    assert isinstance(error.value, FiresteelError)
    assert error.value.code == "FS9111"
    return error.value.reason, error.value.what


def test_an_address_of_ipv4_and_roce_v2_is_taken_before_all_others(tmp_path: Path) -> None:
    port(tmp_path, "a", [(LINK_LOCAL, V1), (LINK_LOCAL, V2), (GLOBAL_V6, V2), (V4, V1), (V4, V2), (EMPTY, V2)])
    device_port = choose_port(root=tmp_path)
    assert (device_port.device, device_port.port, device_port.gid_index, device_port.ethernet, device_port.routed) == (
        "a",
        1,
        4,
        True,
        True,
    )
    assert device_port.gid[-4:] == bytes([10, 77, 0, 1])


@pytest.mark.parametrize(
    ("gids", "index", "routed"),
    [
        ([(LINK_LOCAL, V2), (GLOBAL_V6, V2)], 1, True),
        ([(LINK_LOCAL, V1), (LINK_LOCAL, V2)], 1, False),
        ([(LINK_LOCAL, V1)], 0, False),
    ],
)
def test_without_one_the_next_best_is_taken_and_known_as_such(tmp_path: Path, gids, index: int, routed: bool) -> None:
    port(tmp_path, "a", gids)
    device_port = choose_port(root=tmp_path)
    assert (device_port.gid_index, device_port.routed) == (index, routed)


def test_on_infiniband_the_first_address_is_taken(tmp_path: Path) -> None:
    port(tmp_path, "a", [(LINK_LOCAL, "IB/RoCE v1"), (V4, "IB/RoCE v1")], layer="InfiniBand")
    device_port = choose_port(root=tmp_path)
    assert (device_port.gid_index, device_port.ethernet) == (0, False)


def test_ports_that_are_down_or_bare_are_passed_over_and_named_when_there_is_no_other(tmp_path: Path) -> None:
    port(tmp_path, "a", [(V4, V2)], state="1: DOWN")
    port(tmp_path, "b", [(EMPTY, V2), (PREFIX_ONLY, V2)])
    assert why(tmp_path) == (FallbackReason.NO_PORT, "port 1 of a is DOWN; port 1 of b has no address.")
    port(tmp_path, "b", [(V4, V2)], number=2)
    assert (choose_port(root=tmp_path).device, choose_port(root=tmp_path).port) == ("b", 2)


def test_iwarp_is_passed_over_with_its_reason(tmp_path: Path) -> None:
    port(tmp_path, "siw0", [(V4, V2)], node="4: RNIC")
    found, said = why(tmp_path)
    assert found is FallbackReason.NO_PORT
    assert "iWARP" in said


def test_what_is_asked_for_is_taken_or_missed_by_name(tmp_path: Path) -> None:
    port(tmp_path, "a", [(V4, V2), (GLOBAL_V6, V2)])
    assert choose_port("a", 1, tmp_path).gid_index == 1
    assert why(tmp_path, "b")[0] is FallbackReason.NO_DEVICE
    assert why(tmp_path, "a", 7) == (FallbackReason.NO_PORT, "port 1 of a has no address at index 7.")
    assert why(tmp_path / "absent") == (FallbackReason.NO_DEVICE, f"there is no RDMA device in {tmp_path / 'absent'}.")


# -- pyverbs ---------------------------------------------------------------------------------------------------------

HAS = any((folder / "pyverbs").is_dir() for folder in SYSTEM)


def in_a_process_of_its_own(code: str) -> str:
    """What is imported stays imported."""
    head = "from firesteel.rdma_shuffle.transport.verbs.library import load\nfrom pathlib import Path\nimport sys\n"
    done = subprocess.run([sys.executable, "-c", head + code], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_a_machine_without_pyverbs_says_where_it_looked(tmp_path: Path) -> None:
    said = in_a_process_of_its_own(f"load((Path({str(tmp_path)!r}),))")
    assert f"FS9111 pyverbs is not installed in {tmp_path}" in said
    assert "python3-pyverbs" in said


def test_a_pyverbs_of_another_python_is_refused_before_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "pyverbs").mkdir()
    (tmp_path / "pyverbs" / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "pyverbs" / "device.cpython-37m-x86_64-linux-gnu.so").touch()
    said = in_a_process_of_its_own(f"load((Path({str(tmp_path)!r}),))")
    assert "was not built for Python" in said
    assert "imported" not in said


def test_a_pyverbs_that_does_not_load_is_a_reason_and_no_crash(tmp_path: Path) -> None:
    (tmp_path / "pyverbs").mkdir()
    (tmp_path / "pyverbs" / "__init__.py").touch()
    (tmp_path / "pyverbs" / f"device{sysconfig.get_config_var('EXT_SUFFIX')}").write_bytes(b"no library")
    said = in_a_process_of_its_own(f"load((Path({str(tmp_path)!r}),))")
    assert "FS9111" in said
    assert "does not load" in said


@pytest.mark.skipif(not HAS, reason=f"no pyverbs in {SYSTEM}: apt-get install python3-pyverbs")
def test_of_the_system_s_packages_pyverbs_alone_is_loaded() -> None:
    code = "found = load()\nprint(found.device.__file__)\nprint([each for each in sys.path if 'dist-packages' in each])"
    told = in_a_process_of_its_own(code).splitlines()
    assert "/pyverbs/device" in told[0]
    assert told[1] == "[]"


def test_the_error_goes_between_processes() -> None:
    import pickle

    error = VerbsUnavailable(FallbackReason.NO_MEMORY, "what", "do")
    again = pickle.loads(pickle.dumps(error))
    assert (again.reason, again.what, again.hint, again.code) == (error.reason, "what", "do", "FS9111")
