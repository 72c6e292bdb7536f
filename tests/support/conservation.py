"""Count the rows of every run in a test a second time, by pyarrow and from the files alone.

For each published interval, the rows of the selected files must be published, dead letters, quarantined or dropped. Where the SQL
filters, joins or groups, files do not show how many rows reach the score: then only the outputs of the run are counted.
"""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import sqlglot
from pyarrow import orc
from sqlglot import exp

from firesteel.conf.formats import LINES
from firesteel.jobs.run.interval_scheduler import IntervalScheduler
from firesteel.pipelines.plan.model import ScoreStepPlan
from firesteel.pipelines.publish.quarantine import unparsed_relation
from firesteel.pipelines.storage.open import locate

if TYPE_CHECKING:
    import pytest

    from firesteel.pipelines.plan.model import IntervalPlan, Plan, SourcePlan
    from firesteel.pipelines.result import IntervalResult, RunResult

_CLAUSES = {"kind", "expressions", "from_", "from"}
_CHANGES_ROWS = (
    exp.AggFunc,
    exp.Anonymous,
    exp.Explode,
    exp.Posexplode,
    exp.Inline,
    exp.Stack,
    exp.TableSample,
    exp.UDTF,
)


def watch_runs(patch: pytest.MonkeyPatch) -> None:
    """Count after every run of this process."""
    run = IntervalScheduler.run

    @functools.wraps(run)
    def counted(self: IntervalScheduler, result: RunResult) -> RunResult:
        done = run(self, result)
        for interval in done.intervals:
            if interval.state == "published":
                check_interval(self.plan, interval, done.run_id)
        return done

    patch.setattr(IntervalScheduler, "run", counted)


def check_interval(plan: Plan, result: IntervalResult, run_id: str) -> None:
    """Compare the counts of a run for an interval with the storage."""
    counts, interval = result.counts, next(each for each in plan.intervals if each.id == result.interval)
    place = f"{plan.pipeline} {interval.id}"
    dead_letters = _dead_letters(plan, interval, run_id)
    assert dead_letters == counts.dead_letter, (
        f"{place}: {dead_letters} dead letters lie there, {counts.dead_letter} are counted"
    )
    quarantined = sum(
        _rows_below(f"{plan.storage}/quarantine/{relation}/interval={interval.id}/run_id={run_id}")
        for each in (*plan.sources, *plan.steps)
        for relation in (each.name, unparsed_relation(each.name))
    )
    assert quarantined == counts.quarantined, (
        f"{place}: {quarantined} rows lie in quarantine, {counts.quarantined} are counted"
    )
    sink = plan.sinks[0]
    if sink.mode == "replace_partitions":
        directories = next(output.directories for output in interval.outputs if output.sink == sink.name)
        published = sum(_rows_below(f"{sink.path}/{directory}".rstrip("/")) for directory in directories)
        assert published == counts.scored, f"{place}: {published} rows are published, {counts.scored} are counted"
    source = mapped_source(plan)
    if source is not None and source.format not in LINES:
        files = next((each.files for each in interval.inputs if each.source == source.name), ())
        read = sum(_rows(f"{source.path}/{file.path}", source.format) for file in files)
        accounted = counts.scored + dead_letters + quarantined + counts.dropped
        assert read == counts.rows_in == accounted, f"{place}: {read} rows in the files, {counts}"


def mapped_source(plan: Plan) -> SourcePlan | None:
    """Return the source whose rows are the rows of the sink, one to one; None where SQL filters, joins, groups or repeats rows."""
    steps = {step.name: step for step in plan.steps}
    relation = plan.sinks[0].source
    while relation in steps:
        step = steps[relation]
        if isinstance(step, ScoreStepPlan):
            relation = step.input
        elif len(step.reads) == 1 and _maps(step.sql):
            relation = step.reads[0]
        else:
            return None
    return next(source for source in plan.sources if source.name == relation)


def _maps(sql: str) -> bool:
    tree = sqlglot.parse_one(sql, dialect="spark")
    clauses = {name for name, value in tree.args.items() if value}
    alone = len(list(tree.find_all(exp.Query))) == 1
    return isinstance(tree, exp.Select) and alone and clauses <= _CLAUSES and tree.find(*_CHANGES_ROWS) is None


def _dead_letters(plan: Plan, interval: IntervalPlan, run_id: str) -> int:
    step = plan.score_step
    if step is None:
        return 0
    storage, path = locate(f"{plan.storage}/dead_letter/{step.name}/{interval.id}/{run_id}.jsonl")
    return len(storage.read(path).splitlines()) if storage.status(path) is not None else 0


def _rows_below(uri: str) -> int:
    storage, path = locate(uri)
    if storage.status(path) is None:
        return 0
    formats = {".parquet": "parquet", ".orc": "orc"}
    files = ((file, formats.get(file.name[file.name.rfind(".") :])) for file in storage.walk(path))
    return sum(_rows(f"{storage.base_uri}{file.path}", format_) for file, format_ in files if format_)


def _rows(uri: str, format_: str) -> int:
    """Return the number of rows in the footer of a file."""
    storage, path = locate(uri)
    file = path if storage.base_uri.startswith("file:") else io.BytesIO(storage.read(path))
    return int(orc.ORCFile(file).nrows if format_ == "orc" else pq.read_metadata(file).num_rows)
