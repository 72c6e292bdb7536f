"""The stages of an interval, as they run and as `firesteel explain` shows them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

from firesteel.jobs.run.audit import audit_stages
from firesteel.jobs.run.replay import replay_stages
from firesteel.jobs.run.score_stage import ScoreAndStage
from firesteel.jobs.run.stages import CheckInputs, interval_stages
from firesteel.pipelines.plan.model import Expectation, GatePlan, SqlStepPlan
from firesteel.pipelines.publish.dead_letters import DeadLetterFile
from support.sample_run import sample_plan


def names(stages):
    return [type(stage).__name__ for stage in stages]


def test_each_stage_of_the_sample_plan_has_one_line():
    stages = interval_stages(sample_plan())
    assert names(stages) == [
        "CheckLedger",
        "CheckInputs",
        "ReadSources",
        "Transform",
        "GateInputs",
        "ScoreAndStage",
        "CountRows",
        "CheckMinRows",
        "GateOutputs",
        "CheckInputs",
        "Publish",
    ]
    for stage in stages:
        assert str(stage)
        assert not str(stage).startswith(type(stage).__name__), "the dataclass's own text"
        assert "\n" not in str(stage)


def test_a_plan_has_the_stages_that_it_needs_and_no_others():
    plan = sample_plan()
    score = plan.score_step
    bare = replace(plan, gates=(), steps=(replace(score, operator="direct", input="flights"),))
    assert names(interval_stages(bare)) == [
        "CheckLedger",
        "CheckInputs",
        "ReadSources",
        "ScoreAndStage",
        "CountRows",
        "CheckMinRows",
        "GateOutputs",
        "CheckInputs",
        "DeleteTaskMarks",
        "Publish",
    ]
    no_model = replace(bare, steps=(), sinks=(replace(plan.sinks[0], source="flights"),))
    assert "GateOutputs" not in names(interval_stages(no_model))
    assert str(interval_stages(no_model)[-1]).startswith("replace the partitions of")
    appended = replace(bare, sinks=(replace(plan.sinks[0], mode="append_once"),))
    assert str(interval_stages(appended)[-1]).startswith("add files to the partitions of")


def test_gates_that_exclude_rows_run_before_the_next_step_reads_their_relation():
    plan = sample_plan()
    source = plan.sources[0].name
    drop = Expectation("expect_column_values_to_not_be_null", (("column", "x"),), failing_rows="drop")
    keep = Expectation("expect_table_row_count_to_be_between", (("min_value", 1),))
    gates = (GatePlan("kept", source, (keep,)), GatePlan("split", source, (drop,)))
    stages = {type(stage).__name__: stage for stage in interval_stages(replace(plan, gates=gates))}
    assert str(stages["Transform"]).endswith("exclude rows by gate split")
    assert str(stages["GateInputs"]) == f"check kept on {source}"


def test_steps_after_the_score_belong_to_the_score_stage():
    plan = sample_plan()
    late = SqlStepPlan("late", "SELECT * FROM scored", (), (plan.score_step.name,), ())
    (stage,) = (s for s in interval_stages(replace(plan, steps=(*plan.steps, late))) if isinstance(s, ScoreAndStage))
    assert stage.after == (late,)
    assert "create a view of late" in str(stage)


def test_a_replay_reads_dead_letters_and_adds_to_what_is_published():
    dead_letters = DeadLetterFile("scored", "2013-06-01", "run", "/letters.jsonl", 3, (), "1", open=True)
    stages = replay_stages(sample_plan(), (dead_letters,))
    assert names(stages) == [
        "CheckDeadLetters",
        "CheckInputs",
        "ReadDeadLetters",
        "ScoreAndStage",
        "CountRows",
        "CheckScoredRows",
        "GateOutputs",
        "CheckInputs",
        "AddReplayed",
    ]
    assert str(stages[2]) == "read 3 dead letters as the input of the score step"
    assert str(stages[-1]).startswith("add the files to the published interval")


def test_inputs_are_compared_before_they_are_read_and_after_in_every_list_of_stages():
    plan = sample_plan()
    dead_letters = DeadLetterFile("scored", "2013-06-01", "run", "/letters.jsonl", 3, (), "1", open=True)
    audited = replace(plan.intervals[0], action="audit", audited_gates=tuple(gate.name for gate in plan.gates))
    for stages in (interval_stages(plan), replay_stages(plan, (dead_letters,)), audit_stages(plan, audited)):
        listed = names(stages)
        compared = [number for number, name in enumerate(listed) if name == "CheckInputs"]
        read = {
            "ReadSources",
            "ReadDeadLetters",
            "Transform",
            "GateInputs",
            "AuditGates",
            "ScoreAndStage",
            "GateOutputs",
        }
        reads = [number for number, name in enumerate(listed) if name in read]
        assert compared[0] < min(reads)
        assert compared[-1] > max(reads)
        assert compared[-1] < len(listed) - 1, "the last stage publishes, or records the audit"


def test_a_comparison_says_which_sources_it_compares_by_content():
    first, *others = sample_plan().sources
    text = str(CheckInputs((replace(first, verify="checksum"), *others)))
    assert text == f"compare the files of {first.name} (checksum), {', '.join(o.name for o in others)} with the plan"


def test_stages_are_explained_without_spark():
    code = "import sys, firesteel.jobs.run.stages; print(*sorted({'pyspark', 'pyarrow', 'mlflow'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
