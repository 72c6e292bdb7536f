"""The options of the service: what is wrong is said before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from firesteel.rdma_shuffle.metrics import Metrics, prometheus
from firesteel.rdma_shuffle.settings import Settings, parser, read, split
from firesteel.rdma_shuffle.wire.fault import ServiceNotStarted


def settings(*args: str) -> Settings:
    return read(parser().parse_args(args))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(b"s" * 32)
    path.chmod(0o600)
    return path


def test_sizes_and_peers_are_read(tmp_path: Path, secret: Path) -> None:
    found = settings(
        *("--folder", str(tmp_path), "--node", "a", "--alias", "10.0.0.1", "--slab-bytes", "2m", "--disk-bytes", "1T"),
        *("--listen", "[::1]:0", "--cluster-secret", str(secret), "--peer", "b=127.0.0.1:5", "--peer-port", "9"),
    )
    assert (found.limits.slab_bytes, found.limits.disk_bytes) == (2 << 20, 1 << 40)
    assert found.listen == ("::1", 0)
    assert found.resolve("b") == ("b", ("127.0.0.1", 5))
    assert found.resolve("c") == ("c", ("c", 9))
    assert found.resolve("c:7") == ("c", ("c", 7))
    assert found.is_here("a", 1)
    assert found.is_here("10.0.0.1:1", 1)
    assert not found.is_here("a:2", 1)
    assert not found.is_here("b", 1)


@pytest.mark.parametrize(
    ("owner", "found"),
    [
        ("h", ("h", 1)),
        ("h:2", ("h", 2)),
        ("[::1]:2", ("::1", 2)),
        ("[::1]", ("::1", 1)),
        ("::1", ("::1", 1)),
        ("", ("", 1)),
    ],
)
def test_owners_are_split(owner: str, found: tuple[str, int]) -> None:
    assert split(owner, 1) == found


def test_the_secret_is_not_shown(tmp_path: Path, secret: Path) -> None:
    found = settings("--folder", str(tmp_path), "--cluster-secret", str(secret))
    assert "ssss" not in repr(found)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "--folder is missing"),
        (["--folder", "f", "--socket", "/" + "s" * 120], "longer than 107"),
        (["--folder", "f", "--listen", "127.0.0.1:1"], "without --cluster-secret"),
        (["--folder", "f", "--connections", "0"], "--connections must be at least 1"),
        (["--folder", "f", "--lease", "0"], "must be greater than 0"),
        (["--folder", "f", "--cluster-secret", "/none"], "No such file"),
        (["--folder", "f", "--peer", "b=nowhere"], "is not HOST:PORT"),
    ],
)
def test_what_is_wrong_is_said(args: list[str], says: str) -> None:
    with pytest.raises(ServiceNotStarted, match=says):
        settings(*args)


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, secret: Path) -> None:
    secret.chmod(0o640)
    with pytest.raises(ServiceNotStarted, match=r"other users can read .*chmod 600"):
        settings("--folder", str(tmp_path), "--cluster-secret", str(secret))


def test_a_short_secret_is_refused(tmp_path: Path, secret: Path) -> None:
    secret.write_bytes(b"short\n")
    with pytest.raises(ServiceNotStarted, match="shorter than 32"):
        settings("--folder", str(tmp_path), "--cluster-secret", str(secret))


def test_the_text_for_prometheus_has_each_metric_once_with_its_type() -> None:
    metrics = Metrics()
    metrics.add("remote_bytes", 5)
    metrics.faults["NO_SPACE"] += 2
    metrics.fallbacks["channel_broke"] += 3
    text = prometheus(metrics, {"pinned_bytes": 3.0, "disk_bytes_limit": float("inf")})
    assert "firesteel_shuffle_remote_bytes_total 5\n" in text
    assert 'firesteel_shuffle_faults_total{reason="NO_SPACE"} 2\n' in text
    assert 'firesteel_shuffle_verbs_fallbacks_total{reason="channel_broke"} 3\n' in text
    assert "firesteel_shuffle_disk_bytes_limit inf\n" in text
    samples = [line.split(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(samples) == len(set(samples))
    types = {line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert {sample.partition("{")[0] for sample in samples} == types


def test_a_counter_that_nobody_documented_cannot_be_counted() -> None:
    with pytest.raises(KeyError):
        Metrics().add("nonsense")
