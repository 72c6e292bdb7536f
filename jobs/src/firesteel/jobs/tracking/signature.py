"""Convert a model's MLflow signature to Spark columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from firesteel.conf.errors import ModelError, Where
from firesteel.conf.types import FROM_MLFLOW
from firesteel.pipelines.plan.model import Column
from firesteel.pipelines.sql.select import UNKNOWN

if TYPE_CHECKING:
    from pathlib import Path

_ADVICE = (
    "Log the model again with `signature=infer_signature(frame, predictions)`, where `frame` is a pandas DataFrame."
)


def read_inputs(folder: Path, model: str, where: Where | None = None) -> tuple[Column, ...]:
    """Return the model's input columns in the order of its signature.

    Raises
    ------
    ModelError
        FS3001 if the MLmodel file cannot be read. FS3003 if there is no signature, or it has no column names.
    """
    from firesteel.udfs.mlmodel import metadata_of, read_mlmodel

    try:
        schema = metadata_of(read_mlmodel(folder)).get_input_schema()
    except ModelError as error:
        raise ModelError(error.code, f"model {model}: {error.what}", where=where, hint=error.hint) from error
    if schema is None:
        raise ModelError("FS3003", f"model {model} has no signature.", where=where, hint=_ADVICE)
    if schema.is_tensor_spec():
        raise ModelError(
            "FS3003", f"the signature of model {model} has tensors instead of named columns.", where=where, hint=_ADVICE
        )
    if not schema.has_input_names():
        raise ModelError("FS3003", f"the signature of model {model} has no column names.", where=where, hint=_ADVICE)
    columns = []
    for spec in schema.inputs:
        kind = _spark_type(spec.type)
        if kind is None:
            raise ModelError(
                "FS3003",
                f"input `{spec.name}` of model {model} has type {spec.type}, which has no matching Spark type.",
                where=where,
                hint=_ADVICE,
            )
        columns.append(Column(spec.name, kind, nullable=not spec.required))
    return tuple(columns)


def example_warnings(folder: Path) -> tuple[str, ...]:
    """Return warnings about an input example whose scores may differ from the training."""
    import pandas as pd

    from firesteel.udfs.mlmodel import example_of, metadata_of, read_mlmodel

    try:
        example: object = example_of(folder, metadata_of(read_mlmodel(folder)))
    except Exception:  # noqa: BLE001 - an unreadable example gives no warnings
        return ()
    if not isinstance(example, pd.DataFrame):
        return ()
    columns = [name for name in example.columns if example[name].dtype == object and example[name].isna().any()]
    return tuple(
        f"the input example has missing values in `{name}`: the model gets None for a null string, and scores can differ if it "
        "was trained with NaN."
        for name in columns
    )


def _spark_type(kind: Any) -> str | None:
    from mlflow.types.schema import AnyType, Array, DataType, Map, Object

    if isinstance(kind, AnyType):
        return UNKNOWN
    if isinstance(kind, DataType):
        return FROM_MLFLOW.get(kind.name)
    if isinstance(kind, Array):
        inner = _spark_type(kind.dtype)
        return inner and f"array<{inner}>"
    if isinstance(kind, Map):
        inner = _spark_type(kind.value_type)
        return inner and f"map<string,{inner}>"
    if isinstance(kind, Object):
        fields = [(field.name, _spark_type(field.dtype)) for field in kind.properties]
        if all(inner for _, inner in fields):
            return f"struct<{','.join(f'{name}:{inner}' for name, inner in fields)}>"
    return None
