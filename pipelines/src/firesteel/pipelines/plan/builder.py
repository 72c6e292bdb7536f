"""Spec -> plan: pin models and inputs, type-check features, decide what each interval does and why."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

from firesteel.conf.errors import FiresteelError, SpecError, SpecErrors, Where
from firesteel.pipelines.backend import Backend
from firesteel.pipelines.events import Progress, no_progress
from firesteel.pipelines.plan.check import check
from firesteel.pipelines.plan.contract import check_footer
from firesteel.pipelines.plan.fingerprint import code_hash, plan_hash
from firesteel.pipelines.plan.inputs import Located, partition_name, read_manifest, selected
from firesteel.pipelines.plan.intervals import Slot, slots
from firesteel.pipelines.plan.logical import LINEAGE_TYPES, Logical, outputs_of
from firesteel.pipelines.plan.model import (
    Column,
    Expectation,
    GatePlan,
    IntervalPlan,
    ModelPlan,
    OnError,
    Plan,
    ScoreStepPlan,
    SinkOutput,
    SinkPlan,
    SourceInput,
    SourcePlan,
    SqlStepPlan,
    StepPlan,
    TrackingPlan,
)
from firesteel.pipelines.plan.resources import spark_conf
from firesteel.pipelines.plan.signature import check_features
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.transaction import Area
from firesteel.pipelines.spec.load import LoadedSpec
from firesteel.pipelines.spec.model import Score, ScoreStep, SqlStep
from firesteel.pipelines.spec.values import parse_column_type
from firesteel.pipelines.storage.open import locate

LISTING_THREADS = 8
_SEVERITY: dict[str | None, Literal["critical", "warning"]] = {"warn": "warning", "fail": "critical"}
"""What `on_fail` makes of an expectation, whatever its severity says."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What to plan: intervals from `start` to `end`, both included; `force` plans them even when nothing changed."""

    start: str
    end: str
    force: bool = False


def build_plan(loaded: LoadedSpec, request: PlanRequest, backend: Backend, on_progress: Progress = no_progress) -> Plan:
    """Compile a loaded spec for some intervals.

    Raises
    ------
    SpecErrors
        The spec, the SQL or the features are wrong: all of it at once.
    InputNotReady
        FS4001, FS4002, FS4003: input is missing or is not what the contract says.
    """
    logical = check(loaded, backend)
    spec = loaded.spec
    wanted = slots(spec.interval, request.start, request.end)
    models = tuple(
        backend.resolve_model(name, model, spec.tracking.mlflow.uri, loaded.tree.nearest(("models", name, "uri")).where)
        for name, model in spec.models.items()
    )
    steps, errors = _steps(loaded, logical, {model.name: model for model in models})
    if errors:
        raise SpecErrors.of(errors)
    storages = {name: Located(*locate(source.path)) for name, source in spec.sources.items()}
    inputs = _manifests(loaded, wanted, storages, on_progress)
    _check_contracts(loaded, storages, inputs)
    sinks = tuple(_sink(loaded, logical, name) for name in spec.sinks)
    code = code_hash(loaded.canonical, {name: parsed.canonical for name, parsed in logical.selects.items()})
    environment = backend.environment()
    ledger = Ledger(Area(*locate(spec.storage), spec.name, loaded.profile))
    intervals = []
    for number, slot in enumerate(wanted, start=1):
        on_progress("ledger", number, len(wanted))
        read = inputs[slot.id]
        outputs = tuple(SinkOutput(sink.name, _directories(loaded, logical, sink.name, slot)) for sink in sinks)
        intervals.append(
            _interval(
                slot,
                read,
                outputs,
                ledger,
                plan_hash(code, models, environment, slot.id, read or ()),
                force=request.force,
            )
        )
    return Plan(
        pipeline=spec.name,
        profile=loaded.profile,
        owner=spec.owner,
        framework=environment.split(",", 1)[0],
        environment=environment,
        code_hash=code,
        storage=spec.storage,
        sources=tuple(_source(loaded, logical, name, models) for name in spec.sources),
        models=models,
        steps=steps,
        gates=tuple(_gate(loaded, name) for name in spec.gates),
        sinks=sinks,
        intervals=tuple(intervals),
        tracking=TrackingPlan(spec.tracking.mlflow.uri, spec.tracking.mlflow.experiment),
        master=spec.resources.master,
        spark_conf=spark_conf(spec.resources, spec.configuration),
        spec_text=loaded.text,
    )


def _steps(
    loaded: LoadedSpec, logical: Logical, models: dict[str, ModelPlan]
) -> tuple[tuple[StepPlan, ...], list[FiresteelError]]:
    steps: list[StepPlan] = []
    errors: list[FiresteelError] = []
    for name in logical.order:
        step = loaded.spec.steps[name]
        if isinstance(step, ScoreStep):
            plan = _score_step(name, step.score, logical, models[step.score.model])
            steps.append(plan)
            where = loaded.tree.nearest(("steps", name, "score")).where
            errors += check_features(
                models[plan.model],
                plan.features,
                plan.input,
                logical.relations[plan.input],
                _places(logical, plan.input),
                where,
            )
        elif isinstance(step, SqlStep):
            parsed = logical.selects[name]
            steps.append(
                SqlStepPlan(
                    name, parsed.text.sql, tuple(sorted(step.args.items())), parsed.reads, logical.relations[name]
                )
            )
    return tuple(steps), errors


def _places(logical: Logical, relation: str) -> dict[str, Where]:
    """Where each column of a SQL step is written."""
    parsed = logical.selects.get(relation)
    if parsed is None:
        return {}
    places = {}
    for select in parsed.tree.selects:
        starts = [node.meta["start"] for node in select.walk() if "start" in node.meta]
        if starts:
            places[select.alias_or_name] = parsed.text.at(min(starts))
    return places


def _score_step(name: str, score: Score, logical: Logical, model: ModelPlan) -> ScoreStepPlan:
    features = tuple(column.name for column in model.inputs) if score.features == "signature" else tuple(score.features)
    threads = score.workers.cpus if score.workers.threads == "auto" else score.workers.threads
    on_error = score.on_error
    return ScoreStepPlan(
        name=name,
        input=score.input,
        model=score.model,
        features=features,
        keep=score.keep,
        outputs=outputs_of(score),
        columns=logical.relations[name],
        on_error=OnError(on_error.action, on_error.max_rows, on_error.max_fraction, on_error.retries),
        batch_rows=score.batch.rows,
        batch_bytes=score.batch.bytes,
        threads=threads,
        operator="pandas",
        operator_reason="the general form: any MLflow model, through pandas batches",
    )


def _source(loaded: LoadedSpec, logical: Logical, name: str, models: Iterable[ModelPlan]) -> SourcePlan:
    """Only the columns that something needs are read."""
    source = loaded.spec.sources[name]
    used = {column.lower() for column in (*logical.uses[name], *source.key)}
    features = {column.name.lower() for model in models for column in model.inputs}
    for step in loaded.spec.steps.values():
        if isinstance(step, ScoreStep) and step.score.input == name:
            used |= features
    columns = {column: parse_column_type(text) for column, text in source.contract.columns.items()}
    return SourcePlan(
        name=name,
        format=source.format,
        path=source.path,
        columns=tuple(
            Column(column, kind, nullable)
            for column, (kind, nullable) in columns.items()
            if column.lower() in used or not nullable
        ),
        partitions=tuple(
            Column(column, parse_column_type(text)[0], nullable=False) for column, text in source.partitions.items()
        ),
        key=source.key,
    )


def _gate(loaded: LoadedSpec, name: str) -> GatePlan:
    gate = loaded.spec.gates[name]
    expectations = tuple(
        Expectation(
            expect.type,
            tuple(sorted((expect.model_extra or {}).items())),
            _SEVERITY.get(expect.on_fail, expect.severity),
        )
        for expect in gate.expect
    )
    return GatePlan(name, gate.on, expectations)


def _sink(loaded: LoadedSpec, logical: Logical, name: str) -> SinkPlan:
    sink = loaded.spec.sinks[name]
    columns = {column.name: column for column in logical.relations[sink.from_]}
    lineage = tuple(Column(column, LINEAGE_TYPES[column], nullable=False) for column in sink.lineage_columns)
    data = tuple(column for column in columns.values() if column.name not in sink.partition_by)
    parts = tuple(columns[column] for column in sink.partition_by)
    return SinkPlan(
        name=name,
        source=sink.from_,
        format=sink.format,
        path=sink.path,
        columns=(*data, *lineage, *parts),
        partition_by=sink.partition_by,
        mode=sink.mode,
        lineage_columns=sink.lineage_columns,
        keep_versions=sink.retain.versions,
    )


def _manifests(
    loaded: LoadedSpec,
    wanted: tuple[Slot, ...],
    storages: dict[str, Located],
    on_progress: Progress,
) -> dict[str, tuple[SourceInput, ...] | None]:
    """The inputs of every interval, listed in parallel; None where an interval is to be skipped."""
    spec = loaded.spec
    work = [(slot, name) for slot in wanted for name in spec.sources]

    def one(item: tuple[Slot, str]) -> tuple[SourceInput | None, list[FiresteelError]]:
        slot, name = item
        where = loaded.tree.nearest(("sources", name, "select")).where
        return read_manifest(
            name, spec.sources[name], storages[name], slot, ready_column=spec.interval.column, where=where
        )

    errors: list[FiresteelError] = []
    found: dict[str, list[SourceInput]] = {slot.id: [] for slot in wanted}
    skipped: set[str] = set()
    with ThreadPoolExecutor(LISTING_THREADS) as pool:
        for number, ((slot, _), (read, problems)) in enumerate(zip(work, pool.map(one, work), strict=True), start=1):
            on_progress("listing", number, len(work))
            errors += problems
            if read is not None:
                found[slot.id].append(read)
            elif not problems:
                skipped.add(slot.id)
    if errors:
        first = errors[0]
        if len(errors) > 1:
            first = type(first)(
                first.code, f"{first.what} ({len(errors) - 1} more like it.)", where=first.where, hint=first.hint
            )
        raise first
    return {key: None if key in skipped else tuple(inputs) for key, inputs in found.items()}


def _check_contracts(
    loaded: LoadedSpec,
    storages: dict[str, Located],
    inputs: dict[str, tuple[SourceInput, ...] | None],
) -> None:
    """One footer per source: the newest file, where a producer's change shows first."""
    newest: dict[str, tuple[int, str, int]] = {}
    for each in (read for reads in inputs.values() for read in reads or ()):
        for file in each.files:
            newest[each.source] = max(newest.get(each.source, (-1, "", 0)), (file.modified_ms, file.path, file.length))
    errors: list[FiresteelError] = []
    for name, (_, path, length) in newest.items():
        at = storages[name]
        errors += check_footer(name, loaded.spec.sources[name], at.storage, f"{at.path}/{path}", length)
    if errors:
        first = errors[0]
        more = "".join(f" Also: {error.what}" for error in errors[1:])
        raise type(first)(first.code, first.what + more, where=first.where, hint=first.hint)


def _directories(loaded: LoadedSpec, logical: Logical, sink_name: str, slot: Slot) -> tuple[str, ...]:
    """The directories that an interval replaces.

    A partition column whose values are known (it is an unchanged copy of a source's selected partition column) gives one
    directory a value. From the first column on whose values are not known, the whole directory above is replaced.
    """
    spec = loaded.spec
    sink = spec.sinks[sink_name]
    where = loaded.tree.nearest(("sinks", sink_name, "partition_by")).where
    directories = [""]
    for index, column in enumerate(sink.partition_by):
        relation, origin = logical.trace(sink.from_, column)
        source = spec.sources.get(relation)
        values = selected(source, slot, where).get(origin) if source and origin in source.partitions else None
        if index == 0 and (values is None or len(values) != 1):
            found = (
                "is not an unchanged copy of a selected source partition"
                if values is None
                else f"holds {len(values)} values"
            )
            raise SpecErrors.of(
                [
                    SpecError(
                        "FS1004",
                        f"sinks.{sink_name}: `{column}` {found} for one interval.",
                        where=where,
                        hint="A rerun must know which partitions it replaces: pass the source's partition column through.",
                    )
                ]
            )
        if values is None:
            break
        directories = [
            f"{head}/{partition_name(column, value)}".lstrip("/") for head in directories for value in values
        ]
    return tuple(directories)


def _interval(
    slot: Slot,
    read: tuple[SourceInput, ...] | None,
    outputs: tuple[SinkOutput, ...],
    ledger: Ledger,
    digest: str,
    *,
    force: bool,
) -> IntervalPlan:
    plan = IntervalPlan(slot.id, slot.start.isoformat(), slot.end.isoformat(), "score", "", digest, read or (), outputs)
    if read is None:
        return replace(plan, action="skip", reason="input missing (on_missing: skip)")
    last = [ledger.published(output.sink, slot.id) for output in outputs]
    if force:
        return replace(plan, reason="forced")
    if any(record is None for record in last):
        return replace(plan, reason="not published yet")
    if all(record is not None and record.plan_hash == digest for record in last):
        when = last[0].ended_at if last[0] else ""
        return replace(plan, action="skip", reason=f"already published with the same plan hash ({when})")
    return replace(plan, reason="changed since it was published: spec, model or input")
