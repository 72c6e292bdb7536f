"""Match the columns of a model's signature with the columns of a relation, before a JVM starts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from firesteel.conf.errors import FiresteelError, ModelError, Where
from firesteel.conf.types import ENFORCED
from firesteel.pipelines.analysis import Analysis
from firesteel.pipelines.plan.model import Column, ModelPlan
from firesteel.pipelines.spec.model import Score
from firesteel.pipelines.spec.refs import did_you_mean
from firesteel.pipelines.spec.values import split_at_commas
from firesteel.pipelines.sql.select import UNKNOWN

_NESTED = re.compile(r"(array|map|struct)<(.*)>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Features:
    """The input columns of a model in a score step.

    Attributes
    ----------
    columns
        Columns of the relation, in the order of the model's signature.
    names
        The model's names of these columns; empty if they are the same.
    """

    columns: tuple[str, ...]
    names: tuple[str, ...] = ()


def features_of(
    score: Score, analysis: Analysis, model: ModelPlan, where: Where, errors: list[FiresteelError]
) -> Features:
    """Return the model's input columns in a score step; add errors to `errors`."""
    requested = None if score.features == "signature" else tuple(score.features)
    if score.input in analysis.unknown:
        return Features(requested if requested is not None else tuple(column.name for column in model.inputs))
    columns, places = analysis.relations[score.input], analysis.places(score.input)
    features, problems = find_features(model, requested, score.input, columns, places, where)
    errors += problems
    return features


def find_features(
    model: ModelPlan,
    requested: tuple[str, ...] | None,
    relation: str,
    columns: tuple[Column, ...],
    places: Mapping[str, Where],
    where: Where | None,
) -> tuple[Features, list[FiresteelError]]:
    """Return the relation's column for each column of a model's signature.

    Parameters
    ----------
    requested
        The features that the spec lists, in any order. None for all columns of the signature, except missing optional ones.
    places
        Locations of the relation's columns, if known.
    where
        The location of the score step, for missing features; None if there is no spec.

    Returns
    -------
    The features, and FS3002 for each that is missing, not in the signature, ambiguous, or of a type that the model does not accept.
    """
    if not model.inputs:
        return Features(requested or ()), []
    search = _Search(model, relation, columns, places, where)
    needs = search.listed(requested) if requested is not None else list(model.inputs)
    pairs = [(need, search.column(need, optional=requested is None and need.nullable)) for need in needs]
    matches = [(need, column) for need, column in pairs if column is not None]
    for need, column in matches:
        search.check_type(need, column)
    features, names = tuple(column.name for _, column in matches), tuple(need.name for need, _ in matches)
    return Features(features, names if names != features else ()), search.errors


class _Search:
    def __init__(
        self,
        model: ModelPlan,
        relation: str,
        columns: tuple[Column, ...],
        places: Mapping[str, Where],
        where: Where | None,
    ) -> None:
        self._title = f"model {model.name} (v{model.version})"
        self._model = model
        self._relation = relation
        self._columns = columns
        self._places = places
        self._where = where
        self.errors: list[FiresteelError] = []

    def listed(self, requested: tuple[str, ...]) -> list[Column]:
        """Return the columns of the signature that the spec lists, in the order of the signature."""
        listed = set()
        for name in requested:
            matches = _named(name, self._model.inputs)
            if len(matches) == 1:
                listed.add(matches[0].name)
            else:
                known = [column.name for column in self._model.inputs]
                self._error(
                    f"{self._title} has no input `{name}`; its signature has {', '.join(known)}.",
                    self._where,
                    did_you_mean(name, known) or f"Remove `{name}` from features.",
                )
        for column in self._model.inputs:
            if not column.nullable and column.name not in listed:
                self._error(
                    f"{self._title} needs `{column.name}: {column.type}`, which is not in `features`.",
                    self._where,
                    f"Add `{column.name}`, or write `features: signature`.",
                )
        return [column for column in self._model.inputs if column.name in listed]

    def column(self, need: Column, *, optional: bool) -> Column | None:
        """Return the relation's column for a column of the signature."""
        matches = _named(need.name, self._columns)
        if len(matches) == 1:
            return matches[0]
        if matches:
            self._error(
                f"{self._title} needs `{need.name}`, but {self._relation} has {', '.join(f'`{c.name}`' for c in matches)}, which "
                "Spark does not distinguish.",
                self._where,
                "Rename one of them in a SQL step before the score.",
            )
        elif not optional:
            kind = f": {need.type}" if need.type != UNKNOWN else ""
            self._error(
                f"{self._title} needs `{need.name}{kind}`, but {self._relation} does not have this column.",
                self._where,
                f"Add it to {self._relation} (it has: {', '.join(column.name for column in self._columns)}).",
            )
        return None

    def check_type(self, need: Column, column: Column) -> None:
        """Add FS3002 when the model does not accept the column's type."""
        if not accepts(need.type, column.type):
            self._error(
                f"{self._title} needs `{need.name}: {need.type}`, but {self._relation} has `{column.type}`.",
                self._places.get(column.name, self._where),
                f"Add CAST({column.name} AS {need.type.upper()}).",
            )

    def _error(self, what: str, where: Where | None, hint: str) -> None:
        self.errors.append(ModelError("FS3002", what, where=where, hint=hint))


def _named(name: str, columns: Iterable[Column]) -> list[Column]:
    """Return the columns with a name, ignoring case as Spark does."""
    return [column for column in columns if column.name.lower() == name.lower()]


def accepts(need: str, given: str) -> bool:
    """Return whether MLflow's schema enforcement converts a column type to the type in the signature.

    Examples
    --------
    >>> accepts("double", "int"), accepts("double", "bigint"), accepts("array<double>", "array<float>")
    (True, False, True)
    """
    if UNKNOWN in (need, given) or need == given or given in ENFORCED.get(need, ()):
        return True
    if need == "double" and given.startswith("decimal("):
        return True
    outer, inner = _NESTED.fullmatch(need), _NESTED.fullmatch(given)
    if not outer or not inner or outer[1] != inner[1]:
        return False
    if outer[1] == "array":
        return accepts(outer[2], inner[2])
    ours, theirs = split_at_commas(outer[2]), split_at_commas(inner[2])
    if outer[1] == "map":
        return len(ours) == len(theirs) == 2 and all(map(accepts, ours, theirs))
    fields = dict(part.split(":", 1) for part in ours)
    return all(name in fields and accepts(fields[name], kind) for name, kind in (part.split(":", 1) for part in theirs))
