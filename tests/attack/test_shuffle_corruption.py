"""Map outputs that change on disk after their map stage. Without compression nothing but the checksums can see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.scripted_service import ScriptedService
from support.shuffle import LOCAL_CLUSTER, Application, plugin_conf


def flip_a_bit(path: Path) -> None:
    """Change one bit of a file in place, so that every hard link to it sees the change."""
    with path.open("r+b") as file:
        middle = path.stat().st_size // 2
        file.seek(middle)
        (byte,) = file.read(1)
        file.seek(middle)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize(
    ("master", "options"),
    [
        ("local[2]", {}),
        pytest.param(LOCAL_CLUSTER, {}, marks=pytest.mark.long),
        pytest.param(LOCAL_CLUSTER, {"spark.maxRemoteBlockSizeFetchToMem": "1k"}, marks=pytest.mark.long),
    ],
    ids=["local blocks", "remote blocks", "remote blocks to disk"],
)
def test_a_changed_output_is_computed_again(tmp_path, shuffle_digests, master, options):
    plain = {"spark.shuffle.compress": "false", "spark.shuffle.io.retryWait": "100ms"}
    with ScriptedService(tmp_path) as service:
        conf = plugin_conf(service.socket, retryWait="20ms") | plain | options
        with Application(tmp_path / "app", master, conf) as application:
            application.run("first_stage")
            files = [Path(output.data) for output in service.outputs.values()]
            for path in files[:2]:
                flip_a_bit(path)
            assert application.run("second_stage") == shuffle_digests["second_stage"]
            application.stop()
    assert len(files) == 4
    assert sum(application.map_tasks().values()) >= 6
    ends = [event for event in application.events() if event["Event"] == "SparkListenerTaskEnd"]
    assert {end["Task End Reason"]["Reason"] for end in ends} >= {"FetchFailed"}
    assert "ExceptionFailure" not in {end["Task End Reason"]["Reason"] for end in ends}
