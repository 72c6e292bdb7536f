"""Harm done to a highly available HDFS and to YARN in the middle of a batch: the published bytes are those of a quiet run.

How long each recovery took is in the test's record (`--junitxml`) and printed (`-s`); no test asserts a time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pytest

from firesteel.conf.hadoop import HadoopConf
from firesteel.conf.yarn import resourcemanager_urls
from firesteel.jobs.embedded.yarn import EmbeddedYarn
from firesteel.jobs.run.runner import run_plan
from firesteel.jobs.spark.application import ResourceManagers
from firesteel.pipelines.plan.model import Plan
from support.held import holding, in_mid_batch
from support.scoring_project import DAY, ScoringProject
from support.waiting import wait_for
from support.yarn_runs import attempts, leftovers, made, on_yarn, published_bytes, submitted

pytestmark = [pytest.mark.integration, pytest.mark.fault, pytest.mark.timeout(600)]

PATIENCE_S = 240.0
"""A machine with two cores and much else to do needs a minute for what takes it ten seconds alone."""


@pytest.fixture(scope="module")
def quiet(spark, tmp_path_factory):
    """What a run publishes that nobody disturbs, on one machine and local files."""
    folder = tmp_path_factory.mktemp("quiet")
    project = made(folder, f"file://{folder}/data", "held")
    on_yarn(project)
    (folder / "marks" / "go").touch()
    from firesteel.pipelines import Pipeline

    plan: Plan = Pipeline.load(folder / "pipeline.yaml").plan(DAY, DAY)
    assert run_plan(plan, spark=spark, runs=folder / "runs").state == "published"
    return published_bytes(project)


@pytest.fixture
def project(yarn_env, tmp_path) -> ScoringProject:
    project = made(tmp_path, f"{yarn_env.hdfs.uri}/harmed/{tmp_path.name}", "held")
    on_yarn(project)
    return project


@pytest.fixture
def recovery(record_property) -> Callable[[str, float], None]:
    """Say how long something took, from `began`."""

    def said(what: str, began: float) -> None:
        seconds = time.monotonic() - began
        record_property(f"{what}_seconds", round(seconds, 2))
        sys.stdout.write(f"\nrecovery: {what} {seconds:.1f} s\n")

    return said


def published_once(project: ScoringProject, quiet) -> None:
    assert published_bytes(project) == quiet
    assert [each.state for each in attempts(project)].count("published") == 1
    assert leftovers(project) == []


def another_waits(project: ScoringProject, before: list[int]) -> None:
    """Until a worker that was not there before is in the middle of a batch: the lost work is done again."""
    wait_for(lambda: bool(set(holding(project.folder / "marks")) - set(before)), "the lost task runs again", PATIENCE_S)


def test_a_run_goes_on_when_the_active_namenode_is_killed_and_the_other_one_takes_over(
    yarn_env: EmbeddedYarn, project, quiet, recovery
):
    """Automatic failover, in the middle of a scan by direct tasks on YARN: both read and write HDFS by themselves."""

    def harm(_: list[int]) -> None:
        hdfs = yarn_env.hdfs
        began = time.monotonic()
        killed = hdfs.kill_active()
        wait_for(lambda: hdfs.active() == 1 - killed, "the other NameNode is active")
        recovery("namenode_failover", began)
        hdfs.start_namenode(killed)

    with in_mid_batch(project.folder / "marks", harm, PATIENCE_S):
        done = submitted(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "application_" in done.stderr
    yarn_env.hdfs.wait_for_namenodes()
    published_once(project, quiet)


@pytest.fixture
def knows_both(spark, yarn_env):
    """The session of all tests, with the NameNodes of this HDFS."""
    conf = spark.sparkContext._jsc.hadoopConfiguration()
    names = ("dfs.nameservices", "dfs.ha.", "dfs.namenode.rpc-address.", "dfs.client.failover.")
    settings = {key: value for key, value in HadoopConf.load().values.items() if key.startswith(names)}
    for key, value in settings.items():
        conf.set(key, value)
    yield spark
    for key in settings:
        conf.unset(key)


def test_sparks_own_reader_and_writer_go_on_when_the_active_namenode_is_killed(
    yarn_env: EmbeddedYarn, knows_both, tmp_path, runs
):
    project = made(tmp_path, f"{yarn_env.hdfs.uri}/harmed/{tmp_path.name}", "held", "arrow")
    plan = project.plan("arrow")

    def harm(_: list[int]) -> None:
        hdfs = yarn_env.hdfs
        hdfs.start_namenode(hdfs.kill_active())

    with in_mid_batch(project.folder / "marks", harm, PATIENCE_S):
        result = run_plan(plan, spark=knows_both, runs=runs)
    assert result.state == "published", result.error
    yarn_env.hdfs.wait_for_namenodes()
    assert project.published().num_rows == result.counts.rows_in == result.counts.scored > 0
    assert leftovers(project) == []


def test_a_node_that_dies_with_its_executor_in_mid_stage_costs_no_row(yarn_env: EmbeddedYarn, project, quiet, recovery):
    """A task that died is tried again with a process for each batch (ADR 8): none of these waits, and the run ends by itself."""
    lost: list[tuple[int, float]] = []

    def harm(waiting: list[int]) -> None:
        number = yarn_env.node_of(waiting[0])
        assert number is not None
        lost.append((number, time.monotonic()))
        yarn_env.kill_node(number)

    try:
        with in_mid_batch(project.folder / "marks", harm, PATIENCE_S):
            done = submitted(project)
        assert done.returncode == 0, done.stdout + done.stderr
        recovery("lost_node_until_published", lost[0][1])
        published_once(project, quiet)
    finally:
        for number, _ in lost:
            yarn_env.start_node(number)
        yarn_env.wait_for_nodes(2)


def test_a_resourcemanager_that_restarts_in_mid_run_finds_the_application_running(
    yarn_env: EmbeddedYarn, project, quiet, recovery
):
    attempt: list[int] = []

    def harm(_: list[int]) -> None:
        managers = ResourceManagers(resourcemanager_urls())
        began = time.monotonic()
        yarn_env.kill_resourcemanager()
        yarn_env.start_resourcemanager()
        yarn_env.wait_for_nodes(2)

        def running() -> bool:
            found = managers.find("")
            return found is not None and found.state == "RUNNING"

        wait_for(running, "the application is running again")
        recovery("resourcemanager_restart", began)
        found = managers.find("")
        attempt.append(found.attempt if found else 0)

    with in_mid_batch(project.folder / "marks", harm, PATIENCE_S):
        done = submitted(project, "--deploy-mode", "cluster")
    assert done.returncode == 0, done.stdout + done.stderr
    assert attempt == [1]
    assert "FINISHED SUCCEEDED" in done.stderr
    published_once(project, quiet)


def test_a_driver_that_dies_on_the_cluster_is_followed_by_one_that_goes_on(
    yarn_env: EmbeddedYarn, project, quiet, recovery
):
    def harm(waiting: list[int]) -> None:
        began = time.monotonic()
        assert yarn_env.kill_driver()
        another_waits(project, waiting)
        recovery("lost_driver", began)

    with in_mid_batch(project.folder / "marks", harm, PATIENCE_S):
        done = submitted(project, "--deploy-mode", "cluster")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "driver 2" in done.stderr
    assert [each.state for each in attempts(project)] == ["died", "published"]
    published_once(project, quiet)
