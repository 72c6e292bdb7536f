"""Build a plan from a spec: pin models and inputs, check the types of features, decide the action of each interval."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import JsonValue

from firesteel.conf.errors import FiresteelError, SpecErrors, Where
from firesteel.conf.formats import CODECS, LINES
from firesteel.pipelines.analysis import LINEAGE_TYPES, Analysis, analyze, outputs_of
from firesteel.pipelines.backend import Backend
from firesteel.pipelines.events import Progress, no_progress
from firesteel.pipelines.plan.fingerprint import Parts, code_hash, code_parts, hash_inputs, plan_hash
from firesteel.pipelines.plan.inputs import marker_of
from firesteel.pipelines.plan.intervals import Slot, bound_args, first_slots, slots
from firesteel.pipelines.plan.model import (
    Column,
    Expectation,
    GatePlan,
    IntervalPlan,
    LineagePlan,
    ModelPlan,
    OnError,
    Plan,
    ResourcePlan,
    RuleEffect,
    ScoreStepPlan,
    SinkOutput,
    SinkPlan,
    SourcePlan,
    SqlStepPlan,
    StepPlan,
    TrackingPlan,
    Unparsed,
)
from firesteel.pipelines.plan.security import held_to_security, security_conf
from firesteel.pipelines.planner.challengers import published_challengers, unpinned_challengers, with_challengers
from firesteel.pipelines.planner.cost import check_executor_hours
from firesteel.pipelines.planner.decide import Published, decide
from firesteel.pipelines.planner.lineage import lineage
from firesteel.pipelines.planner.listing import Listing
from firesteel.pipelines.planner.models import ModelPinner
from firesteel.pipelines.planner.operator import with_operators
from firesteel.pipelines.planner.outputs import added_values, check_replaced_once, replaced_directories
from firesteel.pipelines.planner.resources import propose, spark_conf
from firesteel.pipelines.planner.signature import features_of
from firesteel.pipelines.publish.owner import check_outside, check_sink, check_store
from firesteel.pipelines.publish.policy import Request, authorise, policies
from firesteel.pipelines.publish.signers import require_signer
from firesteel.pipelines.publish.transaction import StateStore
from firesteel.pipelines.rules import LogicalPlan, Scan, first_logical_plan, optimize
from firesteel.pipelines.spec.date_formats import split_format
from firesteel.pipelines.spec.load import DEFAULT_PROFILE, LoadedSpec
from firesteel.pipelines.spec.model import HttpLineage, Score, ScoreStep, SqlStep
from firesteel.pipelines.spec.refs import constant_args
from firesteel.pipelines.spec.values import parse_column_type
from firesteel.pipelines.sql.select import UNKNOWN

_SEVERITY: dict[str | None, Literal["critical", "warning"]] = {
    "warn": "warning",
    "fail": "critical",
    "quarantine": "warning",
    "drop": "warning",
}
"""The severity that `on_fail` sets; it overrides `severity`."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """A request for the intervals from `start` to `end`, both inclusive.

    `force` plans intervals even when nothing changed; `wait_s` is the time to wait for missing input. With `other_python`, the executors
    have another Python environment than this process.
    """

    start: str
    end: str
    force: bool = False
    wait_s: float = 0.0
    other_python: bool = False


@held_to_security
def build_plan(
    loaded: LoadedSpec, analysis: Analysis, request: PlanRequest, backend: Backend, on_progress: Progress = no_progress
) -> Plan:
    """Return the plan of a checked spec for some intervals.

    Raises
    ------
    SpecErrors
        All errors of the SQL and the features.
    InputNotReady
        FS4001 to FS4004: input is missing or does not match the contract.
    NotAllowed
        FS76xx: a site policy does not allow this user to publish to a sink, or requires a signing key and the spec has none.
    """
    spec = loaded.spec
    for sink in spec.sinks.values():
        publish = Request.of(spec.name, loaded.profile, sink.path, spec.storage)
        authorise(publish, strict=spec.security.strict)
        if not spec.security.signing_key:
            require_signer(publish, "", policies())
    requested = slots(spec.interval, request.start, request.end)
    pin = ModelPinner(backend, spec, other_python=request.other_python)
    models = tuple(
        pin(name, model, loaded.tree.nearest(("models", name, "uri")).where) for name, model in spec.models.items()
    )
    listing = Listing.of(loaded, requested, on_progress)
    incomplete: Mapping[str, frozenset[str]] = {}
    if analysis.unknown:
        analysis, incomplete = _infer_columns(loaded, analysis, listing, request.wait_s)
    steps, errors = _steps(loaded, analysis, {model.name: model for model in models})
    steps = with_challengers(loaded, analysis, steps, pin, errors)
    if errors:
        raise SpecErrors.of(errors)
    scores = [step for step in steps if isinstance(step, ScoreStepPlan)]
    challengers = {step.name: step.challenger.features for step in scores if step.challenger}
    logical, rules = optimize(
        first_logical_plan(spec, analysis, {step.name: step.features for step in scores}, challengers)
    )
    inputs = listing.wait_for_inputs(request.wait_s, {scan.source: dict(scan.only) for scan in logical.scans})
    inputs = listing.with_digests(inputs)
    plan = _assemble(loaded, logical, rules, models, steps, backend.environment(), requested[0], incomplete)
    code = _code_parts(loaded, analysis)
    store = StateStore.at(spec.storage, spec.name, loaded.profile)
    check_store(store)
    check_outside(store, store.base)
    for name, sink in spec.sinks.items():
        check_sink(store, name, sink.path)
        check_outside(store, sink.path)
    published = Published.of(
        store, {name: sink.path for name, sink in spec.sinks.items()}, [slot.id for slot in requested]
    )
    appends = frozenset(name for name, sink in spec.sinks.items() if sink.mode == "append_once")
    gates, auditable = frozenset(gate.name for gate in plan.gates), plan.auditable_gates
    intervals = []
    for number, slot in enumerate(requested, start=1):
        on_progress("ledger", number, len(requested))
        read = inputs[slot.id]
        outputs = _outputs(loaded, analysis, slot)
        args = bound_args(spec, slot)
        parts = hash_inputs(code, (*models, *published_challengers(steps)), plan.environment, read or (), args)
        digest = plan_hash(parts, slot.id)
        interval = IntervalPlan(
            slot.id, slot.start.isoformat(), slot.end.isoformat(), "skip", "", digest, read or (), outputs, parts, args
        )
        intervals.append(interval if read is not None else replace(interval, reason="input missing (on_missing: skip)"))
    check_replaced_once(loaded, intervals)
    readable = [interval for interval in intervals if not interval.reason]
    actions = decide(readable, published, force=request.force, appends=appends, gates=gates, auditable=auditable)
    decided = {interval.id: interval for interval in actions}
    intervals = [decided.get(interval.id, interval) for interval in intervals]
    listing.check_contracts([interval.inputs for interval in intervals if interval.action != "skip"], plan.sources)
    proposal = propose(logical, spec.configuration, intervals, published.recent())
    check_executor_hours(proposal, loaded.tree.nearest(("resources", "executors", "max_executor_hours")).where)
    return replace(
        plan,
        intervals=tuple(intervals),
        resources=proposal,
        spark_conf=spark_conf(
            spec.resources,
            security_conf(spec),
            proposal,
            spec.workers,
            next((sink.file_bytes for sink in plan.sinks), None),
            spec.interval.batch_concurrency,
        ),
    )


def sketch(loaded: LoadedSpec, analysis: Analysis, backend: Backend) -> Plan:
    """Return a plan without intervals and without pinned models, made from a spec without models and data.

    A sketch can be drawn and compared, but not run.
    """
    spec = loaded.spec
    models = tuple(
        ModelPlan(name, model.uri, "", "", "", 0, "", model.method, ()) for name, model in spec.models.items()
    )
    steps, _ = _steps(loaded, analysis, {model.name: model for model in models})
    features = {step.name: step.features or None for step in steps if isinstance(step, ScoreStepPlan)}
    steps = unpinned_challengers(spec, steps)
    logical, rules = optimize(first_logical_plan(spec, analysis, features))
    return _assemble(loaded, logical, rules, models, steps, backend.environment(), first_slots(spec.interval)[0], {})


def _assemble(
    loaded: LoadedSpec,
    logical: LogicalPlan,
    rules: tuple[RuleEffect, ...],
    models: tuple[ModelPlan, ...],
    steps: tuple[StepPlan, ...],
    environment: str,
    example: Slot,
    incomplete: Mapping[str, frozenset[str]],
) -> Plan:
    """Return the plan without intervals. The args of the interval `example` decide on operators.

    `incomplete` has the columns of each source that some of its files lack or that have an unknown type.
    """
    spec, analysis = loaded.spec, logical.analysis
    columns, rows = lineage(logical)
    operators = {name: step.score.operator for name, step in spec.steps.items() if isinstance(step, ScoreStep)}
    plan = Plan(
        pipeline=spec.name,
        profile=loaded.profile,
        owner=spec.owner,
        framework=environment.split(",", 1)[0],
        environment=environment,
        code_hash=code_hash(_code_parts(loaded, analysis)),
        storage=spec.storage,
        sources=tuple(
            _source(loaded, analysis, scan, incomplete.get(scan.source, frozenset())) for scan in logical.scans
        ),
        models=models,
        steps=steps,
        gates=tuple(_gate(loaded, name) for name in spec.gates),
        sinks=tuple(_sink(loaded, analysis, name) for name in spec.sinks),
        intervals=(),
        stages=logical.stages,
        rules=rules,
        lineage=columns,
        row_lineage=rows,
        tracking=_tracking(loaded),
        batch_concurrency=spec.interval.batch_concurrency,
        master=spec.resources.master,
        spark_conf=spark_conf(spec.resources, security_conf(spec), ResourcePlan(), spec.workers),
        security=spec.security.mode,
        signing_key=spec.security.signing_key or "",
        spec_text=loaded.text,
        params=_params(loaded),
    )
    return with_operators(plan, operators, dict(bound_args(spec, example)))


def _params(loaded: LoadedSpec) -> tuple[tuple[str, str], ...]:
    """Return the values of the params as text: strings as they are, others as JSON."""
    return tuple(
        (name, value if isinstance(value, str) else json.dumps(value)) for name, value in sorted(loaded.params.items())
    )


def _tracking(loaded: LoadedSpec) -> TrackingPlan:
    mlflow, events = loaded.spec.tracking.mlflow, loaded.spec.tracking.openlineage
    if events is None:
        return TrackingPlan(mlflow.uri, mlflow.experiment, required=mlflow.required)
    namespace = events.namespace or ".".join(("firesteel", *({loaded.profile} - {DEFAULT_PROFILE})))
    if isinstance(events, HttpLineage):
        lineage = LineagePlan(
            "http",
            events.url,
            namespace,
            events.timeout,
            events.required,
            events.endpoint,
            events.auth or "",
            events.ca or "",
        )
    else:
        lineage = LineagePlan("file", events.path, namespace, events.timeout, events.required)
    return TrackingPlan(mlflow.uri, mlflow.experiment, lineage, mlflow.required)


def _code_parts(loaded: LoadedSpec, analysis: Analysis) -> Parts:
    return code_parts(loaded.canonical, {name: parsed.canonical for name, parsed in analysis.selects.items()})


def _infer_columns(
    loaded: LoadedSpec, analysis: Analysis, listing: Listing, wait_s: float
) -> tuple[Analysis, Mapping[str, frozenset[str]]]:
    """Analyse again with the columns from the files of sources that declare none, if any interval is not skipped."""
    unknown = [name for name in loaded.spec.sources if name in analysis.unknown]
    inputs = listing.wait_for_inputs(wait_s, {}, unknown)
    if all(read is None for read in inputs.values()):
        return analysis, {}
    inferred = {name: listing.columns_of(name, inputs) for name in unknown}
    analysis = analyze(loaded, {name: columns for name, (columns, _) in inferred.items()})
    return analysis, {name: incomplete for name, (_, incomplete) in inferred.items()}


def _outputs(loaded: LoadedSpec, analysis: Analysis, slot: Slot) -> tuple[SinkOutput, ...]:
    """Return the directories that an interval replaces; none if the columns are unknown because no interval has data."""
    if analysis.unknown:
        return ()
    return tuple(
        SinkOutput(sink, replaced_directories(loaded, analysis, sink, slot), added_values(loaded, sink, slot))
        for sink in loaded.spec.sinks
    )


def _steps(
    loaded: LoadedSpec, analysis: Analysis, models: dict[str, ModelPlan]
) -> tuple[tuple[StepPlan, ...], list[FiresteelError]]:
    steps: list[StepPlan] = []
    errors: list[FiresteelError] = []
    for name in analysis.order:
        step = loaded.spec.steps[name]
        if isinstance(step, ScoreStep):
            where = loaded.tree.nearest(("steps", name, "score")).where
            steps.append(_score_step(name, step.score, analysis, models[step.score.model], where, errors))
        elif isinstance(step, SqlStep):
            parsed = analysis.selects[name]
            steps.append(SqlStepPlan(name, parsed.text.sql, _args(step), parsed.reads, analysis.relations[name]))
    return tuple(steps), errors


def _args(step: SqlStep) -> tuple[tuple[str, JsonValue], ...]:
    """Return the step's args. Those that refer to the interval stay templates; `IntervalPlan.args` has their values."""
    return tuple(sorted({**step.args, **constant_args(step.args)}.items()))


def _score_step(
    name: str, score: Score, analysis: Analysis, model: ModelPlan, where: Where, errors: list[FiresteelError]
) -> ScoreStepPlan:
    features = features_of(score, analysis, model, where, errors)
    threads = score.workers.cpus if score.workers.threads == "auto" else score.workers.threads
    on_error = score.on_error
    return ScoreStepPlan(
        name=name,
        input=score.input,
        model=score.model,
        features=features.columns,
        feature_names=features.names,
        keep=score.keep,
        outputs=outputs_of(score),
        columns=analysis.relations[name],
        on_error=OnError(on_error.action, on_error.rows_allowed, on_error.fraction_allowed, on_error.retries),
        batch_rows=score.batch.rows,
        batch_bytes=score.batch.bytes,
        threads=threads,
        accelerate=score.accelerate,
        warmup=score.warmup == "input_example",
        timeout_s=score.timeout,
        models_in_memory=score.workers.models_in_memory,
    )


def _source(loaded: LoadedSpec, analysis: Analysis, scan: Scan, incomplete: frozenset[str]) -> SourcePlan:
    source = loaded.spec.sources[scan.source]
    read = {column.lower() for column in (*source.key, *scan.read)}
    named = {column.lower() for column in analysis.uses[scan.source]} | read
    unused = {column for column in incomplete if column.lower() not in read and _is_unused(loaded, analysis, column)}
    columns = [
        column
        for column in analysis.relations[scan.source]
        if column.name not in unused and column.name not in source.partitions
    ]
    return SourcePlan(
        name=scan.source,
        format=source.format,
        path=source.path,
        columns=tuple(column for column in columns if column.name.lower() in named or not column.nullable),
        partitions=tuple(
            Column(column, parse_column_type(text)[0], nullable=False) for column, text in source.partitions.items()
        ),
        key=source.key,
        read=scan.read,
        filters=scan.filters,
        on_missing=source.on_missing,
        marker=marker_of(source),
        verify=source.verify,
        selection=source.reads,
        file_columns=tuple(Column(column, *parse_column_type(text)) for column, text in source.declared.items())
        if source.format in LINES
        else (),
        options=tuple(sorted(source.options.items())),
        unparsed=Unparsed(source.on_error.action, source.on_error.rows_allowed, source.on_error.fraction_allowed),
    )


def _is_unused(loaded: LoadedSpec, analysis: Analysis, column: str) -> bool:
    """Return whether the source's view can omit a column that is not read."""
    keeps_whole_rows = any(gate.excludes_rows for gate in loaded.spec.gates.values())
    return not keeps_whole_rows and all(select.may_lack(column) for select in analysis.selects.values())


def _gate(loaded: LoadedSpec, name: str) -> GatePlan:
    gate = loaded.spec.gates[name]
    expectations = tuple(
        Expectation(
            expect.type,
            tuple(sorted(expect.arguments.items())),
            _SEVERITY.get(expect.on_fail, expect.severity),
            expect.on_fail if expect.on_fail in ("quarantine", "drop") else "keep",
        )
        for expect in gate.expect
    )
    return GatePlan(name, gate.on, expectations)


def _sink(loaded: LoadedSpec, analysis: Analysis, name: str) -> SinkPlan:
    sink = loaded.spec.sinks[name]
    columns = {column.name: column for column in analysis.relations[sink.from_]}
    lineage = tuple(Column(column, LINEAGE_TYPES[column], nullable=False) for column in sink.lineage_columns)
    data = tuple(column for column in columns.values() if column.name not in sink.partition_by)
    added = {
        name: Column(name, parse_column_type(split_format(text)[0])[0], nullable=False)
        for name, text in sink.formats.items()
    }
    parts = tuple(added.get(column) or columns.get(column, Column(column, UNKNOWN)) for column in sink.partition_by)
    return SinkPlan(
        name=name,
        source=sink.from_,
        format=sink.format,
        path=sink.path,
        columns=(*data, *lineage, *parts),
        partition_by=sink.partition_by,
        mode=sink.mode,
        lineage_columns=sink.lineage_columns,
        added_columns=tuple(added),
        keep_versions=sink.retain.versions,
        keep_dead_letters_s=sink.retain.dead_letter,
        keep_quarantine_s=sink.retain.quarantine,
        file_bytes=sink.files.target_size,
        on_empty=sink.on_empty,
        min_rows=sink.min_rows,
        codec=CODECS[sink.format][sink.compression] if sink.compression else "",
    )
