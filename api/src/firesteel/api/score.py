"""Score a DataFrame with an MLflow model."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from firesteel.conf.errors import FiresteelError, SpecError, SpecErrors, SqlError
from firesteel.conf.redaction import scrubbed
from firesteel.pipelines.analysis import parse_output
from firesteel.pipelines.plan.model import Column
from firesteel.pipelines.planner.signature import find_features
from firesteel.pipelines.spec.model import Trust
from firesteel.pipelines.spec.refs import did_you_mean
from firesteel.udfs.spec import ErrorBudget, Output, ScoreSpec

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_LOG = logging.getLogger(__name__)


@scrubbed
def score(
    df: DataFrame,
    model: str,
    outputs: Mapping[str, str],
    *,
    features: Sequence[str] | None = None,
    keep: Sequence[str] | None = None,
    method: Literal["predict", "predict_proba"] = "predict",
    trust_formats: Sequence[str] = ("skops", "onnx"),
    skops_types: Sequence[str] = (),
    requirements: Literal["enforce", "warn", "ignore"] = "enforce",
    tracking_uri: str = "",
    max_failed_rows: int = 0,
    batch_rows: int = 8192,
) -> DataFrame:
    """Return a DataFrame with the model's predictions beside its columns.

    The model is pinned to a version and the SHA-256 of its bytes when this function is called. Workers check the bytes before they
    load it, once in each Python worker. Rows keep their values exactly, and the optimizer neither evaluates the model twice for a row
    nor pushes a filter through it. Columns must have the types of the model's MLflow signature, or types that MLflow converts to them.

    Parameters
    ----------
    df : DataFrame
        Rows to score, of any Spark session that runs in this process (not Spark Connect). The executors need firesteel and the packages
        that the model requires.
    model : str
        ``models:/NAME@ALIAS``, ``models:/NAME/VERSION``, or the folder of a saved model. The model needs a signature that names columns.
    outputs : mapping of str to str
        New column to its Spark SQL type and the part of the prediction that it takes: ``double`` (the whole prediction),
        ``double from [1]`` (its second column), or ``double from p`` (its column ``p``).
    features : sequence of str, optional
        The columns of the model's signature that the model gets, in any order. Default: all of them.
    keep : sequence of str, optional
        The columns of `df` in the result. Default: all of them.
    method : {"predict", "predict_proba"}, optional
        The method of the model that is called.
    trust_formats : sequence of str, optional
        The formats that may be loaded: ``skops``, ``onnx``, ``lightgbm``, ``xgboost``, ``pickle``. The last stands for every model that
        needs its own code to be loaded.
    skops_types : sequence of str, optional
        Types like ``package.module.Class`` that a skops file may have besides those that skops trusts.
    requirements : {"enforce", "warn", "ignore"}, optional
        What a difference between the installed packages and those that the model requires is. With ``enforce``, a missing package, or
        another major version of one that loads the model, is an error; other differences are logged.
    tracking_uri : str, optional
        The MLflow server that knows the model. Default: MLflow's own setting.
    max_failed_rows : int, optional
        The number of rows in each Spark partition that the model may fail on. These rows are missing in the result. With 0, the first
        such row fails the job.
    batch_rows : int, optional
        The largest number of rows in one call of the model.

    Returns
    -------
    DataFrame
        Shape: the rows of `df`, in no particular order; the columns of `keep`, then those of `outputs`, which can be null. It is lazy:
        each action scores again. Write it, or cache it, before you use it twice.

    Raises
    ------
    ModelError
        FS3001, FS3003 or FS3005 if the model, its signature or its alias does not exist; FS3002 if `df` lacks a feature, or has it with
        a type that the model does not accept; FS3009 if its format is not trusted; FS3010 if it is larger than 16 GiB; FS3011 if it has
        links or devices; FS3013 if a package that it requires is missing or has another major version.
    SpecError
        FS1004 if an output's type is not valid; FS1005 if `outputs` is empty; FS1013 if the result would have a column twice.
    SqlError
        FS2004 if `df` has no column of `keep`.
    SpecErrors
        If more than one feature, output or kept column is wrong.
    RuntimeFault
        FS9003 if MLflow cannot be reached.

    Notes
    -----
    Errors of the model come with an action, as a `pyspark.errors.PythonException` whose text has the code: FS5001 for a row that
    fails, FS5003 for more than `max_failed_rows`, FS3006 if an output does not fit the prediction, FS3012 if the model cannot be loaded.

    Examples
    --------
    >>> flights = spark.createDataFrame(
    ...     [(1, 17, 1400, 12.0, 8.0, 0.0, 10.0, 66.2)],
    ...     "flight_id bigint, dep_hour int, distance int, dep_delay double, wind_speed double, precip double, visib double, temp double",
    ... )
    >>> scored = firesteel.score(
    ...     flights, "models:/flight_delay@champion", {"p_delay": "double from [1]"}, keep=["flight_id"], method="predict_proba"
    ... )
    >>> scored
    DataFrame[flight_id: bigint, p_delay: double]
    >>> 0 < scored.first()["p_delay"] < 1
    True
    """
    from pyspark.sql import SparkSession

    from firesteel.jobs.run.models import distribute
    from firesteel.jobs.tracking.registry import resolve_model, short_name
    from firesteel.udfs.score import score as score_frame

    if not isinstance(df.sparkSession, SparkSession):
        raise TypeError("firesteel.score needs a Spark session in this process; this DataFrame is of Spark Connect.")
    kept = tuple(df.columns if keep is None else keep)
    output_columns, errors = _outputs(outputs, kept)
    errors += _missing(kept, df.columns)
    resolved = resolve_model(
        short_name(model),
        model,
        method=method,
        trust_formats=tuple(trust_formats),
        skops_types=tuple(skops_types),
        max_size=Trust().max_size,
        requirements=requirements,
        tracking_uri=tracking_uri,
    )
    for warning in resolved.plan.warnings:
        _LOG.warning("model %s: %s", model, warning)
    pinned = resolved.plan
    columns = tuple(Column(field.name, field.dataType.simpleString(), field.nullable) for field in df.schema)
    listed = None if features is None else tuple(features)
    model_inputs, feature_errors = find_features(pinned, listed, "the DataFrame", columns, {}, None)
    errors += feature_errors
    if errors:
        raise errors[0] if len(errors) == 1 else SpecErrors.of(errors)
    spec = ScoreSpec(
        model=distribute(df.sparkSession, pinned, resolved.folder),
        features=model_inputs.columns,
        feature_names=model_inputs.names,
        keep=kept,
        outputs=output_columns,
        batch_rows=batch_rows,
        backend="native",
        on_error=ErrorBudget("dead_letter", max_failed_rows) if max_failed_rows else ErrorBudget(),
    )
    return score_frame(df, spec).df


def _outputs(outputs: Mapping[str, str], kept: Sequence[str]) -> tuple[tuple[Output, ...], list[FiresteelError]]:
    """Return the output columns, and their errors."""
    columns: list[Output] = []
    errors: list[FiresteelError] = []
    names = [name.lower() for name in kept]
    for name, text in outputs.items():
        try:
            columns.append(Output(name, *parse_output(text)))
        except ValueError as error:
            errors.append(
                SpecError(
                    "FS1004",
                    f"outputs[{name!r}]: {error}.",
                    hint="Write `double`, `double from [1]` or `double from COLUMN`.",
                )
            )
        if name.lower() in names:
            errors.append(
                SpecError("FS1013", f"`{name}` is both a kept column and an output.", hint="Rename the output.")
            )
        names.append(name.lower())
    if not outputs:
        errors.append(
            SpecError(
                "FS1005", "outputs is empty; expected at least one column.", hint='Write it like {"p": "double"}.'
            )
        )
    return tuple(columns), errors


def _missing(kept: Sequence[str], columns: list[str]) -> list[FiresteelError]:
    """Return an error for each kept column that the DataFrame does not have exactly once."""
    errors: list[FiresteelError] = []
    for name in dict.fromkeys(kept):
        if name not in columns:
            hint = did_you_mean(name, columns) or f"Use one of its columns: {', '.join(columns)}."
            errors.append(SqlError("FS2004", f"the DataFrame has no column `{name}` to keep.", hint=hint))
        elif columns.count(name) > 1 or list(kept).count(name) > 1:
            errors.append(
                SpecError(
                    "FS1013", f"`{name}` is in `keep` or in the DataFrame twice.", hint="Rename or drop one of them."
                )
            )
    return errors
