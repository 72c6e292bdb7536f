"""A challenger beside its champion, without Spark: how they agree, and that nothing it does harms the champion."""

from __future__ import annotations

import json
import socket
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark import SparkFiles
from scipy.stats import pearsonr

from firesteel.udfs.agreement import SAMPLE, OutputTally, Tally, tally_from
from firesteel.udfs.attempts import DIED, task_attempt
from firesteel.udfs.report import TaskReport, summarise
from firesteel.udfs.score import score_batches
from firesteel.udfs.shadow import MAX_FAILED_ROWS
from firesteel.udfs.spec import Challenger, ErrorBudget, Output, ScoreSpec
from support.models import save
from support.moody import save_moody

CHANCE = np.random.default_rng(5)
NUMBERS = st.none() | st.floats(-1e9, 1e9) | st.sampled_from([float("nan"), float("inf"), 0.0])


def tallied(pairs, tolerance=0.01, parts=1) -> OutputTally:
    found = OutputTally()
    for part in range(parts):
        some = pairs[part::parts]
        x, y = (pa.array([pair[side] for pair in some], pa.float64()) for side in (0, 1))
        found.merge(_one(x, y, tolerance))
    return found


def _one(x, y, tolerance=0.01) -> OutputTally:
    tally = OutputTally()
    tally.add(x, y, tolerance, CHANCE)
    return tally


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=40), st.integers(1, 4))
def test_sums_of_parts_are_those_of_the_whole_and_what_numpy_finds(pairs, parts):
    found = tallied(pairs, parts=parts)

    def finite(value):
        return value is not None and np.isfinite(value)

    both = [(a, b) for a, b in pairs if finite(a) and finite(b)]
    neither = sum(not finite(a) and not finite(b) for a, b in pairs)
    assert (found.rows, found.compared) == (len(pairs), len(both))
    assert found.alike == neither + sum(a == b for a, b in both)
    assert found.near == neither + sum(abs(a - b) <= 0.01 for a, b in both)
    if both:
        x, y = np.array(both).T
        assert found.mean_abs == pytest.approx(np.abs(x - y).mean(), rel=1e-9)
        assert found.max_abs == np.abs(x - y).max()
    else:
        assert found.mean_abs is None
    assert json.loads(json.dumps(asdict(found), allow_nan=False)) == asdict(found)


def test_the_correlation_is_scipys_however_the_rows_are_parted():
    seed = np.random.default_rng(2)
    x = seed.normal(1e6, 1, 3000)  # far from zero, where sums of squares lose their digits
    pairs = list(zip(x.tolist(), (0.3 * x + seed.normal(size=3000)).tolist(), strict=True))
    wanted = pearsonr(*np.array(pairs).T).statistic
    for parts in (1, 7):
        assert tallied(pairs, parts=parts).correlation == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("x", [[0.1] * 9, [1e300, -1e300, 5.0], [3.0], []])
def test_a_constant_and_what_exceeds_a_double_have_no_correlation(x):
    found = _one(pa.array(x, pa.float64()), pa.array([float(n) for n in range(len(x))], pa.float64()))
    assert found.correlation is None


def test_opposites_correlate_as_minus_one():
    assert tallied([(float(n), -2.0 * n) for n in range(50)], parts=3).correlation == pytest.approx(-1)


def test_labels_agree_or_not_and_two_nulls_agree():
    found = _one(pa.array(["a", "b", None, None, "c"]), pa.array(["a", "x", None, "y", "c"]))
    assert (found.rows, found.compared, found.alike, found.numeric) == (5, 3, 3, False)
    assert found.correlation is None
    nested = _one(pa.array([[1], [2], None]), pa.array([[1], [3], None]))
    assert (nested.compared, nested.alike) == (2, 2)
    integers = _one(pa.array([1, 2, 3], pa.int64()), pa.array([1, 2, 4], pa.int64()))
    assert (integers.alike, integers.max_abs, integers.numeric) == (2, 1.0, True)


def test_samples_of_parts_make_a_sample_of_the_whole():
    found = tallied([(float(n), float(n)) for n in range(5000)], parts=5)
    assert len(found.sample) == SAMPLE
    places = [pair[1] for pair in found.sample]
    assert len(set(places)) == SAMPLE
    assert 2000 < np.mean(places) < 3000
    assert all(a == b for _, a, b in found.sample)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A champion that scores `a`, `b` and `c`, and challengers of every mood."""
    folder = tmp_path_factory.mktemp("models")
    moods = ("obliging", "fails on some", "fails on all", "lacks a package", "is late", "is wide", "does not load")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "ridge": save("ridge", folder / "ridge"),
            **{mood: save_moody(folder / mood.replace(" ", "-"), mood) for mood in moods},
        }


def scored(models, challenger, *, rows=2000, publish=True, timeout_s=None, champion="ridge", backend="reference"):
    seed = np.random.default_rng(1)
    columns = {name: pa.array(seed.normal(scale=20, size=rows)) for name in "abc"}
    table = pa.table({"id": pa.array(range(rows)), **columns})
    published = (Output("rival_y", "double"),) if publish else ()
    spec = ScoreSpec(
        models[champion],
        ("a", "b", "c"),
        ("id",),
        (Output("y", "double"),),
        batch_rows=512,
        on_error=ErrorBudget("dead_letter", max_rows=1000),
        backend=backend,
        timeout_s=timeout_s,
        challenger=Challenger(challenger, ("a",), 0.01, published) if not isinstance(challenger, str) else None,
    )
    if isinstance(challenger, str) and challenger:
        spec = replace(spec, challenger=Challenger(None, ("a",), 0.01, published, challenger))
    schema = pa.schema(
        [("id", pa.int64()), ("y", pa.float64()), *([("rival_y", pa.float64())] if spec.challenger and publish else [])]
    )
    report = TaskReport(0, 0)
    got = pa.Table.from_batches(list(score_batches(table.to_batches(), spec, schema, report)), schema)
    return got, report, table


def test_a_challenger_is_compared_and_published_and_changes_no_score(models):
    alone, plain, _ = scored(models, "")
    got, report, table = scored(models, models["obliging"])
    np.testing.assert_array_equal(got["y"].to_numpy(), alone["y"].to_numpy())
    np.testing.assert_array_equal(got["rival_y"].to_numpy(), table["a"].to_numpy() + 0.005)
    tally = report.challenger
    assert (tally.rows, tally.failed, tally.gave_up, plain.challenger) == (2000, 0, "", None)
    y = tally.outputs["y"]
    apart = np.abs(got["y"].to_numpy() - got["rival_y"].to_numpy())
    assert y.mean_abs == pytest.approx(apart.mean())
    assert y.max_abs == apart.max()
    assert report.seconds["challenger"] > 0
    assert report.rows_by_backend == plain.rows_by_backend
    quiet, _, _ = scored(models, models["obliging"], publish=False)
    assert quiet.column_names == ["id", "y"]


def test_a_model_against_itself_agrees_in_every_bit(models):
    got, report, _ = scored(models, models["obliging"], champion="obliging")
    y = report.challenger.outputs["y"]
    assert (y.compared, y.alike, y.near, y.max_abs) == (2000, 2000, 2000, 0.0)
    assert y.correlation == pytest.approx(1)
    assert got["y"].equals(got["rival_y"])


def test_rows_on_which_it_fails_are_counted_and_null_and_no_dead_letters(models):
    got, report, table = scored(models, models["fails on some"], rows=400)
    bad = table["a"].to_numpy() > 25
    assert 20 < bad.sum() < MAX_FAILED_ROWS
    tally = report.challenger
    assert (tally.rows, tally.failed, tally.errors, tally.gave_up) == (
        400 - bad.sum(),
        bad.sum(),
        {"KeyError": bad.sum()},
        "",
    )
    assert got["rival_y"].is_null().to_numpy(zero_copy_only=False).tolist() == bad.tolist()
    assert (report.rows_scored, report.dead_letters, got.num_rows) == (400, [], 400)


@pytest.mark.parametrize(
    ("mood", "timeout_s", "said"),
    [
        ("fails on all", None, f"FS5006 the challenger failed on {MAX_FAILED_ROWS} rows of a task: ValueError."),
        ("is late", 1.0, "FS5006 a batch exceeded the timeout: no result within 1 s."),
        (
            "is wide",
            None,
            "FS3006 model moody returned a frame with columns x, y, which does not match output y (`double`).",
        ),
        (
            "lacks a package",
            None,
            f"FS3013 model moody fails in the Python environment of executor {socket.gethostname()}: the package no_such_package "
            "(module `no_such_package`) is not installed.",
        ),
        ("does not load", None, "FS3012 model moody cannot be loaded in a worker: RuntimeError: not today"),
    ],
)
def test_one_that_cannot_be_compared_is_given_up_and_the_champion_goes_on(models, mood, timeout_s, said):
    alone, _, _ = scored(models, "")
    got, report, _ = scored(models, models[mood], timeout_s=timeout_s)
    assert report.challenger.gave_up == said
    assert report.challenger.rows == 0
    assert got["rival_y"].null_count == got.num_rows == report.rows_scored == 2000
    np.testing.assert_array_equal(got["y"].to_numpy(), alone["y"].to_numpy())
    assert report.seconds["challenger"] < 30


def test_bytes_that_are_not_the_planned_ones_are_not_loaded(models):
    _, report, _ = scored(models, replace(models["obliging"], digest="0" * 64))
    assert report.challenger.gave_up.startswith("FS3011")


def test_one_that_is_off_says_why(models):
    got, report, _ = scored(models, "not today")
    assert report.challenger == Tally(gave_up="not today")
    assert got["rival_y"].null_count == 2000


def test_tasks_are_brought_together_and_marks_keep_them():
    one = Tally(2, 1, "", {"ValueError": 1}, {"y": tallied([(1.0, 1.0), (2.0, 3.0)])})
    other = Tally(1, 2, "FS5006 it failed", {"ValueError": 1, "KeyError": 1}, {"y": tallied([(5.0, 4.0)])})
    assert tally_from(json.loads(json.dumps(asdict(one)))) == one
    reports = {n: TaskReport(n, n, challenger=each) for n, each in enumerate((one, other))}
    whole = summarise(reports).challenger
    assert (whole.rows, whole.failed, whole.gave_up) == (3, 3, "FS5006 it failed")
    assert whole.errors == {"ValueError": 2, "KeyError": 1}
    assert whole.outputs["y"].max_abs == 1
    assert one.rows == 2, "the parts are as they were"
    assert summarise({0: TaskReport(0, 0)}).challenger is None


def test_after_a_death_the_challenger_goes_first_and_the_wall_comes_second(models, monkeypatch, tmp_path):
    monkeypatch.setattr(SparkFiles, "getRootDirectory", lambda: str(tmp_path))
    spec = ScoreSpec(
        models["ridge"], ("a",), (), (Output("y", "double"),), on_error=ErrorBudget("dead_letter"),
        challenger=Challenger(models["obliging"], ("a",)),
    )  # fmt: skip

    def attempt(number, spec=spec):
        context = SimpleNamespace(partitionId=lambda: 7, attemptNumber=lambda: number)
        mark = Path(tmp_path, ".firesteel-task-job-7")
        with task_attempt(context, spec, "job") as suited:
            _, _, deaths = mark.read_text().partition(" ")
        mark.write_text(f"{1 << 22} {deaths}")  # no process has this id: the attempt died
        return suited.challenger.off if suited.challenger else None, suited.backend

    assert [attempt(number) for number in range(3)] == [("", "reference"), (DIED, "reference"), (DIED, "guarded")]
    strict = replace(spec, on_error=ErrorBudget("fail"))
    assert [attempt(number, strict) for number in range(3)] == [
        ("", "reference"),
        (DIED, "reference"),
        (DIED, "reference"),
    ]
    alone = replace(spec, challenger=None)
    assert [attempt(number, alone) for number in range(2)] == [(None, "reference"), (None, "guarded")]
