"""A challenger in spec, plan, hashes and differences."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from firesteel.conf.errors import ModelError, SpecErrors
from firesteel.pipelines import Pipeline, Plan
from firesteel.pipelines.plan.model import Column
from firesteel.pipelines.planner.diff import diff
from support.data import write_days
from support.specs import FixedBackend, example_with

DAY = "2013-06-01"
METHOD = "    method: predict_proba"
RIVAL = {METHOD: f"    challenger: models:/flight_delay@challenger\n{METHOD}"}
TOLERANT = {METHOD: f'    challenger: {{uri: "models:/flight_delay@challenger", tolerance: 0.1}}\n{METHOD}'}
PUBLISHED = {"      model: delay": "      model: delay\n      publish_challenger: next_"}


class TwoModels(FixedBackend):
    """The champion, and a challenger that is another model, or none."""

    def __init__(self, version: str = "8", needs: str = "", missing: str = "") -> None:
        super().__init__()
        self.challenger, self.needs, self.missing = version, needs, missing

    def resolve_model(self, name, model, tracking_uri, where):
        found = super().resolve_model(name, model, tracking_uri, where)
        if model.uri.endswith("@champion"):
            return found
        if self.missing:
            raise ModelError("FS3005", f"{model.uri}: no such alias.", where=where)
        assert model.challenger is None
        inputs = (*found.inputs[:2], *((Column(self.needs, "double", nullable=False),) if self.needs else ()))
        return replace(found, version=self.challenger, digest=self.challenger * 64, inputs=inputs)


@pytest.fixture
def data(tmp_path) -> Path:
    root = tmp_path / "data"
    write_days(root, [DAY])
    return root


def planned(folder, root, changes=None, backend=None) -> Plan:
    shutil.rmtree(folder / "project", ignore_errors=True)
    path = example_with(folder / "project", changes or {})
    return Pipeline.load(path, params={"root": f"file://{root}"}, backend=backend or TwoModels()).plan(DAY)


def test_a_challenger_is_pinned_with_columns_of_its_own(tmp_path, data):
    plan = planned(tmp_path, data, TOLERANT)
    challenger = plan.score_step.challenger
    assert (challenger.uri, challenger.tolerance, challenger.error, challenger.outputs) == (
        "models:/flight_delay@challenger",
        0.1,
        "",
        (),
    )
    assert (challenger.pinned.version, challenger.pinned.digest) == ("8", "8" * 64)
    assert challenger.features == ("dep_hour", "distance")
    assert len(plan.score_step.features) == 7
    assert [model.version for model in plan.models] == ["7"]
    assert Plan.from_json(plan.to_json()) == plan


def test_one_that_is_not_published_is_in_no_hash(tmp_path, data):
    base = planned(tmp_path, data)
    for changes, backend in ((RIVAL, TwoModels()), (RIVAL, TwoModels("9")), (TOLERANT, TwoModels())):
        other = planned(tmp_path, data, changes, backend)
        assert (other.code_hash, other.intervals[0].plan_hash) == (base.code_hash, base.intervals[0].plan_hash)
        assert [column.name for column in other.sinks[0].columns] == [column.name for column in base.sinks[0].columns]


def test_one_that_is_published_makes_columns_and_its_bytes_are_in_the_hash(tmp_path, data):
    base = planned(tmp_path, data)
    plan = planned(tmp_path, data, RIVAL | PUBLISHED)
    assert [(output.name, output.type, output.select) for output in plan.score_step.challenger.outputs] == [
        ("next_p_delay", "double", "[1]")
    ]
    assert [column.name for column in plan.sinks[0].columns][:3] == ["flight_id", "p_delay", "next_p_delay"]
    assert plan.intervals[0].plan_hash != base.intervals[0].plan_hash
    assert dict(plan.intervals[0].hash_inputs)["model delay challenger"] == f"v8 {'8' * 64}"
    again = planned(tmp_path, data, RIVAL | PUBLISHED, TwoModels("9"))
    assert again.code_hash == plan.code_hash
    assert again.intervals[0].plan_hash != plan.intervals[0].plan_hash
    assert planned(tmp_path, data, TOLERANT | PUBLISHED).intervals[0].plan_hash == plan.intervals[0].plan_hash
    lineage = {each.column: each for each in plan.lineage}
    assert lineage["next_p_delay"].values == (("flights", "distance"), ("flights", "sched_dep_time"))
    assert set(lineage["next_p_delay"].values) < set(lineage["p_delay"].values)
    assert ("flights", "flight_id") not in lineage["p_delay"].values
    assert lineage["next_p_delay"].models == ("delay",)


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        (TwoModels(missing="alias"), "FS3005 pipeline.yaml:"),
        (TwoModels(needs="humidity"), "FS3002 pipeline.yaml:"),
    ],
)
def test_what_is_wrong_with_it_stops_the_plan_only_where_it_is_published(tmp_path, data, backend, said):
    plan = planned(tmp_path, data, RIVAL, backend)
    assert plan.score_step.challenger.error.startswith(said)
    assert plan.intervals[0].action == "score"
    with pytest.raises(SpecErrors) as caught:
        planned(tmp_path, data, RIVAL | PUBLISHED, backend)
    assert str(caught.value.errors[0]).startswith(said)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (PUBLISHED, "FS1005 {where}  model `delay` has no challenger to publish."),
        (
            RIVAL | {"      model: delay": '      model: delay\n      publish_challenger: "1x"'},
            "FS1004 {where}  `steps.scored.score.publish_challenger` must",
        ),
        (
            RIVAL | PUBLISHED | {'{p_delay: "double from [1]"}': '{p_delay: "double from [1]", next_p_delay: double}'},
            "FS1013 {where}  the challenger's column `next_p_delay` already exists.",
        ),
        (
            {METHOD: f"    challenger: {{url: x}}\n{METHOD}"},
            "FS1003 pipeline.yaml:{line}:18  unknown key `url` in models.delay.challenger. Did you mean `uri`?",
        ),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path, changes, expected):
    path = example_with(tmp_path, changes)
    lines = path.read_text().splitlines()
    line = next(n for n, text in enumerate(lines, 1) if "publish_challenger" in text or "challenger: {url" in text)
    with pytest.raises(SpecErrors) as caught:
        Pipeline.load(path, params={"root": "file:///x"}, backend=TwoModels())
    found = [str(error) for error in caught.value.errors]
    wanted = expected.format(where=f"pipeline.yaml:{line}:7", line=line)
    assert any(each.startswith(wanted) for each in found), found


def test_a_difference_says_what_became_of_the_challenger(tmp_path, data):
    plain, quiet, newer = (
        planned(tmp_path, data, changes, backend)
        for changes, backend in ((None, TwoModels()), (RIVAL, TwoModels()), (RIVAL, TwoModels("9")))
    )
    said = [(change.of, change.words, change.touches) for change in diff(plain, quiet).changes]
    assert said == [("step scored", "challenger models:/flight_delay@challenger is new", "nothing")]
    said = [(change.of, change.words, change.touches) for change in diff(quiet, newer).changes]
    assert said == [("step scored challenger", "v8 (sha 88888888) -> v9 (sha 99999999)", "nothing")]
    assert diff(quiet, newer).scored_again == ()
    shown = [planned(tmp_path, data, RIVAL | PUBLISHED, TwoModels(version)) for version in "89"]
    assert [change.touches for change in diff(*shown).changes] == ["results"]
    assert diff(*shown).scored_again == (DAY,)


def test_a_sketch_knows_the_spec_s_words(tmp_path):
    path = example_with(tmp_path, RIVAL)
    challenger = Pipeline.load(path, params={"root": "file:///x"}, backend=TwoModels()).sketch().score_step.challenger
    assert (challenger.uri, challenger.pinned) == ("models:/flight_delay@challenger", None)
