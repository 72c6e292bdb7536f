"""Does a relation give what a model needs? Known before a JVM starts."""

from __future__ import annotations

from collections.abc import Mapping

from firesteel.conf.errors import FiresteelError, ModelError, Where
from firesteel.pipelines.plan.model import Column, ModelPlan
from firesteel.pipelines.sql.select import UNKNOWN

_SAFE = {
    "bigint": {"int", "smallint", "tinyint"},
    "int": {"smallint", "tinyint"},
    "double": {"float", "int", "smallint", "tinyint"},
    "float": {"smallint", "tinyint"},
}
"""Model type -> types that MLflow's schema enforcement converts without loss."""


def check_features(
    model: ModelPlan,
    features: tuple[str, ...],
    relation: str,
    columns: tuple[Column, ...],
    places: Mapping[str, Where],
    where: Where,
) -> list[FiresteelError]:
    """FS3002 for each feature that is missing or of a type the model cannot take.

    Parameters
    ----------
    places
        Where each column of the relation is made, when that is known.
    where
        The score step, for features that are missing.
    """
    given = {column.name.lower(): column for column in columns}
    wanted = {column.name: column for column in model.inputs}
    errors: list[FiresteelError] = []
    for name in features:
        column = given.get(name.lower())
        need = wanted.get(name)
        if column is None:
            kind = f": {need.type}" if need else ""
            errors.append(
                ModelError(
                    "FS3002",
                    f"model {model.name} (v{model.version}) needs `{name}{kind}`; {relation} has no such column.",
                    where=where,
                    hint=f"Add it to {relation} (it has: {', '.join(c.name for c in columns)}).",
                )
            )
        elif (
            need
            and UNKNOWN not in (column.type, need.type)
            and column.type != need.type
            and column.type not in _SAFE.get(need.type, set())
        ):
            errors.append(
                ModelError(
                    "FS3002",
                    f"model {model.name} (v{model.version}) needs `{name}: {need.type}`; {relation} gives `{column.type}`.",
                    where=places.get(column.name, where),
                    hint=f"Add CAST({name} AS {need.type.upper()}).",
                )
            )
    return errors
