"""Analyse a spec: the order of its steps, and the columns, uses and origins of its relations.

The analysis uses the spec alone. `planner/builder.py` adds the model's signature and the data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from firesteel.conf.errors import FiresteelError, SpecError, SpecErrors, SqlError, Where
from firesteel.conf.files import UnusableFileError, read_user_text
from firesteel.conf.quantities import plural
from firesteel.pipelines.plan.model import Column, OutputColumn
from firesteel.pipelines.spec.load import LoadedSpec
from firesteel.pipelines.spec.model import Formatted, Gate, Score, ScoreStep, Select, Sink, SqlStep, Workers
from firesteel.pipelines.spec.refs import did_you_mean, not_in_sql, references_in_sql
from firesteel.pipelines.spec.values import normal_type, parse_column_type
from firesteel.pipelines.sql.dependencies import Dependencies
from firesteel.pipelines.sql.hermetic import outside_errors, unpinned_errors
from firesteel.pipelines.sql.select import (
    UNKNOWN,
    ParsedSelect,
    SelectFacts,
    SqlText,
    analyze_select,
    check_markers,
    parse_select,
    wrong_qualified,
)

LINEAGE_TYPES = {"_run_id": "string", "_model_version": "string", "_plan_hash": "string", "_scored_at": "timestamp"}
_OUTPUT = re.compile(r"\s*(?P<type>[^\s]+(?:\s*\([^)]*\))?)(?:\s+from\s+(?P<select>\[\d+\]|[A-Za-z_]\w*))?\s*")


@dataclass(frozen=True, slots=True)
class Analysis:
    """The analysed pipeline.

    Attributes
    ----------
    order
        The steps in the order of their dependencies.
    relations
        The columns of every source and step.
    uses
        Relation -> the columns that SQL, gates and score steps use.
    origins
        Step -> column -> the (relation, column) that it copies.
    needs
        SQL step -> the dependencies of its columns and of its rows.
    unknown
        Sources without declared columns, and the SQL steps over them. Their columns are unknown until the data is read.
    unsure
        Relations with unknown columns, because of an error or because their source declares none.
    """

    order: tuple[str, ...]
    relations: Mapping[str, tuple[Column, ...]]
    selects: Mapping[str, ParsedSelect]
    uses: Mapping[str, frozenset[str]]
    origins: Mapping[str, Mapping[str, tuple[str, str]]]
    needs: Mapping[str, Dependencies]
    unknown: frozenset[str] = frozenset()
    unsure: frozenset[str] = frozenset()

    def trace(self, relation: str, column: str) -> tuple[str, str]:
        """Return the original (relation, column) of which `column` is an unchanged copy."""
        return _trace(self.origins, relation, column)

    def places(self, relation: str) -> dict[str, Where]:
        """Return the location of each column of a SQL step."""
        parsed = self.selects.get(relation)
        if parsed is None:
            return {}
        places = {}
        for select in parsed.tree.selects:
            starts = [node.meta["start"] for node in select.walk() if "start" in node.meta]
            if starts:
                places[select.alias_or_name] = parsed.text.at(min(starts))
        return places


_OF_INTERVAL = re.compile(r"\$\{interval\.(?!end\b)\w+(:[^}]+)?\}")
"""A reference to the interval without an offset."""


def _is_of_interval(select: Select | None) -> bool:
    """Return whether a source's partition column has the date of the interval, and no other such as the day before."""
    if isinstance(select, Formatted):
        return True
    return isinstance(select, str) and _OF_INTERVAL.fullmatch(select.strip()) is not None


def _trace(origins: Mapping[str, Mapping[str, tuple[str, str]]], relation: str, column: str) -> tuple[str, str]:
    while column in origins.get(relation, {}):
        relation, column = origins[relation][column]
    return relation, column


def analyze(loaded: LoadedSpec, file_columns: Mapping[str, tuple[Column, ...]] | None = None) -> Analysis:
    """Return the analysis of a loaded spec.

    Parameters
    ----------
    file_columns
        Columns in the data, for sources that declare none.

    Raises
    ------
    SpecErrors
        All FS1xxx and FS2xxx errors that need no models and no data.
    """
    analysis, errors = analyze_with_errors(loaded, file_columns)
    if errors:
        raise SpecErrors.of(errors)
    return analysis


def analyze_with_errors(
    loaded: LoadedSpec, file_columns: Mapping[str, tuple[Column, ...]] | None = None
) -> tuple[Analysis, list[FiresteelError]]:
    """Return the analysis of the valid parts of a spec, and the errors."""
    work = _Analyzer(loaded, file_columns or {})
    work.names()
    work.sources()
    work.parse()
    for name in loaded.spec.steps:
        work.visit(name, ())
    work.gates_and_sinks()
    analysis = Analysis(
        tuple(work.order),
        work.relations,
        work.selects,
        {name: frozenset(used) for name, used in work.uses.items()},
        work.origins,
        work.needs,
        frozenset(work.unknown_relations),
        frozenset(work.unknown_relations | work.broken | work.wrong),
    )
    return analysis, loaded.root_causes(work.errors)


def parse_output(text: str) -> tuple[str, str]:
    """Return ("double", "[1]") for `double from [1]`. Raise ValueError for another format."""
    match = _OUTPUT.fullmatch(text)
    if not match:
        raise ValueError(f"`{text}` is not `TYPE`, `TYPE from [INDEX]` or `TYPE from COLUMN`")
    return normal_type(match["type"]), match["select"] or ""


def outputs_of(score: Score) -> tuple[OutputColumn, ...]:
    """Return the output columns of a score step."""
    return tuple(OutputColumn(name, *parse_output(text)) for name, text in score.output.items())


def challenger_outputs_of(score: Score) -> tuple[OutputColumn, ...]:
    """Return the published columns of the challenger; none without `publish_challenger`."""
    prefix = score.publish_challenger
    return tuple(replace(output, name=f"{prefix}{output.name}") for output in outputs_of(score)) if prefix else ()


_SECTIONS = {
    "relation": ("sources", "steps"),
    "step": ("steps",),
    "model": ("models",),
    "sink": ("sinks",),
    "partition": (),
}
"""Kind of name -> the sections of a spec that define it."""


class _Analyzer:
    def __init__(self, loaded: LoadedSpec, file_columns: Mapping[str, tuple[Column, ...]]) -> None:
        self.loaded = loaded
        self.file_columns = file_columns
        self.spec = loaded.spec
        self.errors: list[FiresteelError] = []
        self.order: list[str] = []
        self.relations: dict[str, tuple[Column, ...]] = {}
        self.selects: dict[str, ParsedSelect] = {}
        self.uses: dict[str, set[str]] = {}
        self.origins: dict[str, Mapping[str, tuple[str, str]]] = {}
        self.needs: dict[str, Dependencies] = {}
        self.unknown_relations: set[str] = set()
        self.done: set[str] = set()
        self.broken: set[str] = set()
        self.wrong: set[str] = set()
        """Steps of which only the names of the columns are known."""
        self.names_all = [*self.spec.sources, *self.spec.steps]

    def where(self, *path: str | int) -> Where:
        return self.loaded.tree.nearest(path).where

    def replaced(self, *sections: str) -> bool:
        """Return whether one of these sections of the spec has an error as a whole."""
        return any((section,) in self.loaded.replaced for section in sections)

    def is_unclear(self, *path: str | int) -> bool:
        """Return whether an error affects a value, or an item of a list."""
        node = self.loaded.tree.nearest(path)
        items = node.value if isinstance(node.value, list) else []
        return any(part.where in self.loaded.unclear for part in (node, *items))

    def error(self, code: str, what: str, *path: str | int, hint: str = "") -> None:
        self.errors.append(SpecError(code, what, where=self.where(*path), hint=hint))

    def unknown(self, kind: str, name: str, known: list[str], *path: str | int) -> None:
        if self.replaced(*_SECTIONS[kind]):
            return  # the name may be defined in the section with the error
        self.error(
            "FS1010",
            f"{kind} `{name}` is not defined.",
            *path,
            hint=did_you_mean(name, known) or f"Use a defined name: {', '.join(known) or 'none'}.",
        )

    def names(self) -> None:
        """Add FS1013 for each step whose name is already used: SQL and Spark's views ignore case."""
        taken = {name.lower(): (name, "source") for name in self.spec.sources}
        for name in self.spec.steps:
            other, kind = taken.setdefault(name.lower(), (name, "step"))
            if other != name:
                self.error("FS1013", f"step `{name}` and {kind} `{other}` differ only in case.", "steps", name)
            elif kind == "source":
                self.error("FS1013", f"`{name}` is both a source and a step.", "steps", name)

    def sources(self) -> None:
        for name, source in self.spec.sources.items():
            columns = {column: parse_column_type(text) for column, text in source.declared.items()}
            partitions = {column: parse_column_type(text) for column, text in source.partitions.items()}
            if (not columns and name not in self.file_columns) or self._has_wrong_columns(name):
                self.unknown_relations.add(name)
            path = ("sources", name, "schema") if source.schema_ else ("sources", name, "contract", "columns")
            self._duplicates(columns, "is a duplicate column", *path)
            self._duplicates(partitions, "is a duplicate partition", "sources", name, "partitions")
            of_partitions = {column.lower() for column in partitions}
            for column in columns:
                if column.lower() in of_partitions:
                    self.error("FS1013", f"`{column}` is both a column and a partition of {name}.", *path, column)
            for column in source.select if ("sources", name, "partitions") not in self.loaded.replaced else ():
                if column not in source.levels:
                    self.unknown("partition", column, list(partitions), "sources", name, "select", column)
            declared = tuple(Column(column, *kind) for column, kind in {**columns, **partitions}.items())
            in_files = tuple(column for column in self.file_columns.get(name, ()) if column.name not in partitions)
            self.relations[name] = (*in_files, *declared)
            self.uses[name] = set()
            for index, column in enumerate(source.key):
                self.column(name, column, "sources", name, "key", index)

    def _has_wrong_columns(self, source: str) -> bool:
        """Return whether the columns of a source are unknown because their declaration has an error."""
        whole = (
            ("sources",),
            ("sources", source),
            *(("sources", source, key) for key in ("contract", "partitions", "schema")),
        )
        return bool({*whole, ("sources", source, "contract", "columns")} & self.loaded.replaced)

    def _duplicates(self, names: Iterable[str], what: str, *path: str | int) -> None:
        """Add FS1013 for each name that occurs before, ignoring case."""
        earlier: set[str] = set()
        for index, name in enumerate(names):
            if name.lower() in earlier:
                key = name if isinstance(names, Mapping) else index
                self.error("FS1013", f"`{name}` {what}; Spark ignores case.", *path, key)
            earlier.add(name.lower())

    def column(self, relation: str, column: str, *path: str | int) -> None:
        known = [declared.name for declared in self.relations.get(relation, ())]
        if relation in self.broken or relation in self.unknown_relations or column in known:
            return
        close = did_you_mean(column, known)
        self.errors.append(
            SqlError(
                "FS2004",
                f"column `{column}` does not exist in {relation}.",
                where=self.where(*path),
                hint=close or f"Use a column of {relation}: {', '.join(known)}.",
            )
        )

    def parse(self) -> None:
        for name, step in self.spec.steps.items():
            if not isinstance(step, SqlStep):
                continue
            if (step.sql is None) == (step.sql_file is None):
                if not self.loaded.is_replaced("steps", name):  # otherwise the error is already reported
                    given = "both" if step.sql else "neither"
                    what = f"steps.{name} needs one of `sql`, `sql_file` and `score`, found {given}."
                    self.error("FS1005", what, "steps", name)
                continue
            try:
                text = SqlText(step.sql, self.where("steps", name, "sql"), in_file=False) if step.sql else None
                parsed = parse_select(text or self._sql_file(name, step.sql_file or ""))
            except FiresteelError as error:
                self.errors.append(error)
                continue
            if outside := outside_errors(parsed):
                self.errors += outside
                continue
            self.errors += unpinned_errors(parsed)
            declared = {relation.lower(): relation for relation in self.names_all}
            parsed = replace(
                parsed, tables=tuple((declared.get(table.lower(), table), where) for table, where in parsed.tables)
            )
            if ("steps", name, "args") not in self.loaded.replaced:
                self.errors += check_markers(parsed, step.args)
            self.selects[name] = parsed

    def _sql_file(self, name: str, file: str) -> SqlText:
        """Return the SQL of a file. References in it are errors, because SQL is not resolved."""
        where = self.where("steps", name, "sql_file")
        path = (self.loaded.folder / file).resolve()
        if not path.is_relative_to(self.loaded.folder.resolve()):
            raise SpecError("FS1015", f"sql_file `{file}` is outside the spec's folder.", where=where)
        try:
            text = SqlText(read_user_text(path), Where(file), in_file=True)
        except UnusableFileError as error:
            raise SpecError("FS1001", f"sql_file `{file}` {error.why}.", where=where) from None
        sql = text.sql
        for start, written, reference in reversed(references_in_sql(sql)):
            self.errors.append(not_in_sql(written, reference, text.at(start)))
            sql = (
                f"{sql[:start]}{'NULL':<{len(written)}}{sql[start + len(written) :]}"  # keep the positions of the rest
            )
        return replace(text, sql=sql.replace("$${", "${"))

    def visit(self, name: str, path: tuple[str, ...]) -> None:
        """Analyse a step after the steps that it reads, depth first."""
        if name in path:
            cycle = " -> ".join([*path[path.index(name) :], name])
            self.error("FS1012", f"the steps form a cycle: {cycle}.", "steps", name)
            self.broken.add(name)
            return
        if name in self.done or name not in self.spec.steps:
            return
        step = self.spec.steps[name]
        if isinstance(step, ScoreStep):
            self._score(name, step.score, path)
        elif name in self.selects:
            self._sql(name, self.selects[name], path)
        else:
            self.broken.add(name)
        self.done.add(name)
        self.order.append(name)

    def _sql(self, name: str, parsed: ParsedSelect, path: tuple[str, ...]) -> None:
        reads, lacking = [], False
        for table, where in parsed.tables:
            if table not in self.names_all:
                lacking = True
                if not self.replaced("sources", "steps"):
                    what = f"relation `{table}` is not a source or a step."
                    hint = did_you_mean(table, self.names_all) or f"Use a defined name: {', '.join(self.names_all)}."
                    self.errors.append(SqlError("FS2003", what, where=where, hint=hint))
            else:
                reads.append(table)
                self.visit(table, (*path, name))
        known_reads = {relation: self.relations.get(relation, ()) for relation in reads}
        lacking = lacking or bool(self.broken & {name, *reads})
        if lacking or self.unknown_relations & set(reads):
            sure = known_reads.keys() - self.broken - self.unknown_relations
            self.errors += wrong_qualified(parsed, {relation: known_reads[relation] for relation in sure})
            if lacking:
                self._by_names(name, parsed)
            else:
                self.unknown_relations.add(name)
                self.relations[name] = ()
            return
        step = self.spec.steps[name]
        args = step.args if isinstance(step, SqlStep) else {}
        facts, errors = analyze_select(parsed, known_reads, args)
        self.errors += errors
        if errors:
            self._by_names(name, parsed)
        else:
            self._add(name, facts)

    def _by_names(self, name: str, parsed: ParsedSelect) -> None:
        """Add a step with an error. Its columns are those that the SELECT names, if it names all."""
        names = [select.alias_or_name for select in parsed.tree.selects]
        (self.wrong if all(names) and "*" not in names else self.broken).add(name)
        self._add(name, SelectFacts(tuple(Column(column, UNKNOWN) for column in names), {}))

    def _add(self, name: str, facts: SelectFacts) -> None:
        self.relations[name] = facts.columns
        self.origins[name] = facts.origins
        self.needs[name] = facts.needs
        self.uses[name] = set()
        for relation, used in facts.uses.items():
            self.uses[relation] |= used

    def _score(self, name: str, score: Score, path: tuple[str, ...]) -> None:
        self.visit(score.input, (*path, name))
        self._workers(name, score.workers)
        if score.model not in self.spec.models:
            self.unknown("model", score.model, list(self.spec.models), "steps", name, "score", "model")
        if score.input not in self.names_all:
            self.unknown("relation", score.input, self.names_all, "steps", name, "score", "input")
        unsure = score.input not in self.names_all or score.input in self.broken | self.unknown_relations
        columns = {column.name: column for column in self.relations.get(score.input, ())}
        features = score.features if isinstance(score.features, tuple) else ()
        named = [*score.keep, *features]
        for key, listed in (("keep", score.keep), ("features", features)):
            self._duplicates(listed, f"is a duplicate in {key}", "steps", name, "score", key)
            for index, column in enumerate(listed):
                if not unsure:
                    self.column(score.input, column, "steps", name, "score", key, index)
        if self.loaded.replaced & {("steps", name), ("steps", name, "score"), ("steps", name, "score", "output")} or (
            self.loaded.is_replaced("steps", name, "score", "keep") or self.is_unclear("steps", name, "score", "keep")
        ):
            self.broken.add(name)
        if unsure:
            self.wrong.add(name)
        outputs = []
        for column, text in score.output.items():
            try:
                outputs.append(Column(column, parse_output(text)[0]))
            except ValueError as error:
                what = f"`steps.{name}.score.output.{column}`: {error}."
                self.error("FS1004", what, "steps", name, "score", "output", column)
                outputs.append(Column(column, UNKNOWN))
            if column.lower() in {kept.lower() for kept in score.keep}:
                self.error(
                    "FS1013", f"`{column}` is in both `keep` and `output`.", "steps", name, "score", "output", column
                )
        self._duplicates(score.output, "is a duplicate output", "steps", name, "score", "output")
        outputs += self._published_challenger(name, score, outputs)
        if unsure:
            columns = {column: Column(column, UNKNOWN) for column in score.keep}
        kept = [columns[column] for column in score.keep if column in columns]
        self.relations[name] = (*kept, *outputs)
        self.origins[name] = {column.name: (score.input, column.name) for column in kept}
        self.uses[name] = set()
        self.uses.setdefault(score.input, set()).update(column for column in named if column in columns)

    def _published_challenger(self, name: str, score: Score, outputs: list[Column]) -> list[Column]:
        path = ("steps", name, "score", "publish_challenger")
        if score.publish_challenger is None:
            return []
        model = self.spec.models.get(score.model)
        if model is not None and model.challenger is None:
            hint = f"Set models.{score.model}.challenger, or remove this key."
            self.error("FS1005", f"model `{score.model}` has no challenger to publish.", *path, hint=hint)
        taken = {*score.keep, *(column.name for column in outputs)}
        columns = [Column(f"{score.publish_challenger}{column.name}", column.type) for column in outputs]
        for column in columns:
            if column.name in taken:
                self.error("FS1013", f"the challenger's column `{column.name}` already exists.", *path)
        return columns

    def gates_and_sinks(self) -> None:
        for name, gate in self.spec.gates.items():
            relation = gate.on
            if gate.on.startswith("sink:"):
                sink = self.spec.sinks.get(gate.on.removeprefix("sink:"))
                if sink is None:
                    self.unknown("sink", gate.on.removeprefix("sink:"), list(self.spec.sinks), "gates", name, "on")
                    continue
                relation = sink.from_
            elif relation not in self.names_all:
                self.unknown("relation", relation, self.names_all, "gates", name, "on")
                continue
            self._check_exclusion(name, gate)
            for index, expect in enumerate(gate.expect):
                column = expect.arguments.get("column")
                if isinstance(column, str) and relation in self.relations:
                    self.column(relation, column, "gates", name, "expect", index, "column")
                    self.uses.setdefault(relation, set()).add(column)
                counted = expect.arguments.get("of") if expect.type == "row_count_matches" else None
                if isinstance(counted, str) and counted not in self.names_all:
                    self.unknown("relation", counted, self.names_all, "gates", name, "expect", index, "of")
        for name, sink in self.spec.sinks.items():
            self._sink(name, sink)

    def _check_exclusion(self, name: str, gate: Gate) -> None:
        """Add FS7004 for each expectation that excludes rows after the score."""
        scored = {name for name, step in self.spec.steps.items() if isinstance(step, ScoreStep)}
        for step in self.order:
            if step in self.selects and scored & set(self.selects[step].reads):
                scored.add(step)
        for index, expect in enumerate(gate.expect):
            if expect.excludes_rows and (gate.on.startswith("sink:") or gate.on in scored):
                self.error(
                    "FS7004",
                    f"gates.{name} checks {gate.on}, which is already scored, so it cannot {expect.on_fail} rows.",
                    *("gates", name, "expect", index, "on_fail"),
                    hint="Check a source or a step before the score, or use `on_fail: fail` or `warn`.",
                )

    def _workers(self, name: str, workers: Workers) -> None:
        """Compare the resources of a task with those of an executor."""
        resources, path = self.spec.resources, ("steps", name, "score", "workers")
        cores = resources.local_cores
        if workers.gpus and cores is not None:
            self.error(
                "FS1004",
                f"`steps.{name}.score.workers.gpus`: a task needs a GPU, but the master {resources.master} does not schedule GPUs.",
                *path,
                "gpus",
                hint="Remove `gpus` and set CUDA_VISIBLE_DEVICES; Spark schedules GPUs only on clusters.",
            )
        if cores is None:
            cores = resources.executors.cores if resources.executors else None
        if cores and workers.cpus > cores:
            self.error(
                "FS1004",
                f"`steps.{name}.score.workers.cpus` is {workers.cpus}, but an executor has {plural(cores, 'core')}, so no task could start.",
                *path,
                "cpus",
                hint=f"Set `cpus` to at most {cores}, or give executors more cores.",
            )
        elif cores and workers.gpus and cores != workers.cpus:
            self.error(
                "FS1004",
                f"`steps.{name}.score.workers.gpus`: an executor with GPUs runs one task at a time; "
                f"{cores - workers.cpus} of its {cores} cores would be idle.",
                *path,
                "gpus",
                hint=f"Set `cpus: {cores}`, or resources.executors.cores: {workers.cpus}.",
            )

    def _formats(self, name: str, sink: Sink) -> None:
        """Add an error for each formatted partition column that would replace other values."""
        for column in sink.formats:
            if column not in sink.partition_by:
                self.unknown("partition", column, list(sink.partition_by), "sinks", name, "formats", column)
            same = [known.name for known in self.relations.get(sink.from_, ()) if known.name.lower() == column.lower()]
            relation, origin = _trace(self.origins, sink.from_, same[0]) if same else ("", "")
            source = self.spec.sources.get(relation)
            copied = source is not None and origin in source.partitions and _is_of_interval(source.select.get(origin))
            if same and not (same == [column] and copied):
                self.error(
                    "FS1013",
                    f"`{column}` is a column of {sink.from_}, and its format in sinks.{name}.partition_by would replace its values.",
                    *("sinks", name, "partition_by"),
                    hint="Rename one of them, or leave out the format.",
                )

    def _sink(self, name: str, sink: Sink) -> None:
        if sink.from_ not in self.spec.steps:
            self.unknown("step", sink.from_, list(self.spec.steps), "sinks", name, "from")
            return
        if sink.from_ in self.broken:
            return
        for index, column in enumerate(sink.partition_by):
            if column not in sink.formats:
                self.column(sink.from_, column, "sinks", name, "partition_by", index)
        self._formats(name, sink)
        self._duplicates(sink.partition_by, "is a duplicate in partition_by", "sinks", name, "partition_by")
        published = [column.name.lower() for column in self.relations.get(sink.from_, ())]
        published += [column.lower() for column in sink.formats]
        for index, column in enumerate(sink.lineage_columns):
            if column in published:
                what = f"`{column}` is already a column of {sink.from_}."
                self.error("FS1013", what, "sinks", name, "lineage_columns", index)
        if self.loaded.is_replaced("interval"):
            return
        if self.spec.interval.column not in (None, sink.partition_by[0]):
            self.error(
                "FS1004",
                f"sinks.{name}.partition_by starts with `{sink.partition_by[0]}`, which is not the interval's column.",
                "sinks",
                name,
                "partition_by",
                0,
                hint=f"Put the interval's column `{self.spec.interval.column}` first.",
            )
