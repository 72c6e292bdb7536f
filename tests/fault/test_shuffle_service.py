"""What goes wrong between the plugin and its service: each ends with the right digest, or with the reason told."""

from __future__ import annotations

from collections import Counter

import pytest

from support.scripted_service import CORRUPT, FETCH, NO_SPACE, REFUSED, REGISTER, UNREACHABLE, Script, ScriptedService
from support.shuffle import LOCAL_CLUSTER, Application, plugin_conf
from support.waiting import wait_for

QUICK = {
    "fetchTimeout": "2s",
    "registerTimeout": "5s",
    "retryWait": "20ms",
    "breaker.reset": "1s",
    "connectTimeout": "5s",
}
CORES = {"spark.cores.max": "2"}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory, standalone):
    """One application on two Workers, whose service takes a new script for each test. Netty is there to fall back on."""
    folder = tmp_path_factory.mktemp("faulty")
    with ScriptedService(folder, Script(slab_bytes=64 << 20)) as service:
        conf = plugin_conf(service.socket, **QUICK) | CORES | {"spark.task.maxFailures": "6"}
        with Application(folder / "app", standalone.master, conf) as application:
            yield service, application


@pytest.fixture
def script(faulty):
    """A clean script, put back at the end."""
    service, _ = faulty
    yield service.script
    service.script = Script(slab_bytes=service.script.slab_bytes)


def executor_logs(application, standalone) -> str:
    name = application.about["app"]
    return "".join(path.read_text() for path in standalone.folder.glob(f"worker-*/{name}/*/stderr"))


def once_each():
    """True the first time that a map output is asked for."""
    seen: Counter[tuple[int, int]] = Counter()

    def first(shuffle: int, map_id: int) -> bool:
        seen[shuffle, map_id] += 1
        return seen[shuffle, map_id] == 1

    return first


def test_a_wrong_byte_is_seen_and_fetched_again(faulty, script, shuffle_digests):
    _, application = faulty
    script.flip = once_each()
    assert application.run("rdd") == shuffle_digests["rdd"]


def test_wrong_bytes_again_and_again_fall_back(faulty, script, shuffle_digests, standalone):
    _, application = faulty
    script.flip = lambda _shuffle, _map: True
    assert application.run("sort") == shuffle_digests["sort"]
    assert "fallback CORRUPT (127.0.0.1)" in executor_logs(application, standalone)


@pytest.mark.parametrize(
    ("reason", "name"), [(CORRUPT, "CORRUPT"), (NO_SPACE, "NO_SPACE"), (UNREACHABLE, "PEER_UNREACHABLE")]
)
def test_refused_fetches_fall_back(faulty, script, shuffle_digests, standalone, reason, name):
    _, application = faulty
    script.on_fetch = lambda _shuffle, _map: reason
    assert application.run("group_by") == shuffle_digests["group_by"]
    assert f"fallback {name} (127.0.0.1)" in executor_logs(application, standalone)


def test_a_service_that_does_not_answer_falls_back_and_is_left_alone(faulty, script, shuffle_digests, standalone):
    service, application = faulty
    script.hang = lambda kind: kind == FETCH
    assert application.run("many_reduces") == shuffle_digests["many_reduces"]
    logs = executor_logs(application, standalone)
    assert "fallback TIMEOUT (127.0.0.1)" in logs
    service.script = Script(slab_bytes=service.script.slab_bytes)
    assert application.run("rdd") == shuffle_digests["rdd"]


def test_a_connection_cut_in_mid_fetch_is_made_again(faulty, script, shuffle_digests):
    _, application = faulty
    fetches: Counter[int] = Counter()

    def every_second(kind: int) -> bool:
        fetches[kind] += kind == FETCH
        return kind == FETCH and fetches[kind] % 2 == 1

    script.drop = every_second
    assert application.run("join") == shuffle_digests["join"]
    assert fetches[FETCH] >= 2


def test_a_lost_answer_to_a_registration_registers_again(faulty, script, shuffle_digests):
    _service, application = faulty
    dropped: Counter[int] = Counter()

    def first(kind: int) -> bool:
        dropped[kind] += 1
        return kind == REGISTER and dropped[kind] <= 2

    script.drop = first
    assert application.run("rdd") == shuffle_digests["rdd"]
    assert dropped[REGISTER] > 2


def test_a_refused_output_fails_its_task_and_nothing_else(faulty, script, shuffle_digests):
    service, application = faulty
    refused = []

    def first(shuffle: int, map_id: int) -> int:
        if not refused:
            refused.append((shuffle, map_id))
            return REFUSED
        return 0

    script.on_register = first
    assert application.run("rdd") == shuffle_digests["rdd"]
    ((shuffle, map_id),) = refused
    assert not list(service.folder.glob(f"links/*/shuffle_{shuffle}_{map_id}_0.*"))


def test_a_killed_service_is_not_missed_while_executors_live(faulty, script, shuffle_digests, standalone):
    service, application = faulty
    application.run("first_stage")
    service.stop()
    try:
        assert application.run("second_stage") == shuffle_digests["second_stage"]
    finally:
        service.start()
    logs = executor_logs(application, standalone)
    assert "fallback NO_SERVICE (127.0.0.1)" in logs or "fallback SERVICE_LOST (127.0.0.1)" in logs


def test_what_the_application_said_at_its_end(faulty):
    """The last test of the module: it ends the application."""
    service, application = faulty
    wait_for(lambda: not service.leases, "all lent memory is given back")
    application.stop()
    ends = [event for event in application.events() if event["Event"] == "SparkListenerTaskEnd"]
    failed = [end["Task End Reason"] for end in ends if end["Task End Reason"]["Reason"] == "ExceptionFailure"]
    assert len(failed) == 1
    assert "REFUSED" in failed[0]["Full Stack Trace"]
    assert "did not accept map output" in failed[0]["Full Stack Trace"]
    assert not service.outputs


def test_outputs_that_executors_and_service_lost_are_computed_again_at_once(tmp_path, shuffle_digests):
    """The node's outputs go in one step: with one FetchFailed an executor, a stage of four tries would not last."""
    with ScriptedService(tmp_path) as service:
        conf = plugin_conf(service.socket, **QUICK)
        with Application(tmp_path / "app", LOCAL_CLUSTER, conf) as application:
            application.run("first_stage")
            application.kill_executors()
            lost = set(service.outputs)
            service.script.on_fetch = lambda shuffle, map_id: (
                UNREACHABLE if any(key[1:] == (shuffle, map_id) for key in lost) else 0
            )
            assert application.run("second_stage") == shuffle_digests["second_stage"]
            application.stop()
        assert "the map outputs of host 127.0.0.1 are lost" in application.log
        assert sum(application.map_tasks().values()) == 8
        ends = [event for event in application.events() if event["Event"] == "SparkListenerTaskEnd"]
        failures = [end for end in ends if end["Task End Reason"]["Reason"] == "FetchFailed"]
        # A task that starts after the outputs are gone learns it from the driver: Spark names no map then.
        fetched = [end["Task End Reason"] for end in failures if end["Task End Reason"]["Map Index"] != -1]
        assert fetched
        assert {reason["Map Index"] for reason in fetched} <= {0, 1, 2, 3}
        assert {reason["Map ID"] for reason in fetched} <= {key[2] for key in lost}
        attempts = {(end["Stage ID"], end["Stage Attempt ID"]) for end in failures}
        assert len(attempts) == 1


def test_a_service_that_forgot_everything_costs_the_maps_again(tmp_path, shuffle_digests):
    with ScriptedService(tmp_path) as service:
        conf = plugin_conf(service.socket, **QUICK) | {"spark.stage.maxConsecutiveAttempts": "8"}
        with Application(tmp_path / "app", LOCAL_CLUSTER, conf) as application:
            application.run("first_stage")
            service.stop()
            service.outputs.clear()
            service.start()
            application.kill_executors()
            assert application.run("second_stage") == shuffle_digests["second_stage"]
            application.stop()
        assert sum(application.map_tasks().values()) == 8


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"spark.firesteel.shuffle.enabled": "false"}, "SWITCHED_OFF"),
        ({"spark.shuffle.manager": "sort"}, "OTHER_MANAGER"),
        ({"spark.authenticate": "true", "spark.network.crypto.enabled": "true"}, "PLAINTEXT"),
        ({}, "NO_SERVICE"),
    ],
)
def test_without_a_service_it_is_the_sort_shuffle_and_says_why(tmp_path, shuffle_digests, settings, reason):
    conf = plugin_conf(tmp_path / "nobody", connectTimeout="200ms") | settings
    with Application(tmp_path / "app", "local[2]", conf) as application:
        assert application.about["reason"] == reason
        assert application.about["manager"] == "sort"
        assert application.run("rdd") == shuffle_digests["rdd"]
        application.stop()
    assert application.log.count(f"firesteel shuffle fallback {reason} ") == 1


def test_without_a_service_and_without_fallback_it_does_not_start(tmp_path):
    conf = plugin_conf(tmp_path / "nobody", connectTimeout="200ms", fallback="fail")
    with pytest.raises(AssertionError, match="firesteel shuffle: this machine's shuffle service does not answer"):
        Application(tmp_path / "app", LOCAL_CLUSTER, conf).__enter__()


def test_push_based_shuffle_falls_through(tmp_path, shuffle_digests):
    """Outside YARN Spark itself turns push-merge off and says so; the plugin works all the same."""
    with ScriptedService(tmp_path) as service:
        conf = plugin_conf(service.socket, nettyFallback="false") | {"spark.shuffle.push.enabled": "true"}
        with Application(tmp_path / "app", LOCAL_CLUSTER, conf) as application:
            assert application.run("rdd") == shuffle_digests["rdd"]
            application.stop()
        assert service.blocks
