"""Validate the type and the arguments of an expectation in milliseconds, without Spark."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from firesteel.jobs.gates.catalogue import Signature, catalogue
from firesteel.jobs.gates.conditions import unpinned_argument

if TYPE_CHECKING:
    from collections.abc import Mapping

ROW_COUNT_MATCHES = "row_count_matches"
DRIFT = "drift"

OWN: dict[str, Signature] = {
    ROW_COUNT_MATCHES: Signature(required=("of",), optional=("less",)),
    DRIFT: Signature(
        required=("column",),
        optional=("against", "psi_max", "null_rate_max_change", "mean_shift_max", "rows_min"),
    ),
}
"""Expectations that firesteel evaluates. They compare a frame with other relations of the run or with earlier runs."""

FREE = frozenset({"description", "meta", "notes"})
"""Free-text arguments that every expectation accepts and no check reads."""


def known_expectations() -> frozenset[str]:
    """Return the types that a gate can run: those of Great Expectations on Spark and those of firesteel."""
    return frozenset(name for name, signature in catalogue().items() if signature.spark) | frozenset(OWN)


def check_kwargs(type_: str, kwargs: Mapping[str, object]) -> str | None:
    """Return the problem of an expectation in one sentence, or None if it is valid.

    Examples
    --------
    >>> check_kwargs("expect_column_values_to_be_unique", {"colum": "id"})
    'expect_column_values_to_be_unique: unknown argument `colum`. Did you mean `column`?'
    >>> check_kwargs("row_count_matches", {"of": "features", "less": "dead_letter"})
    """
    signature = OWN.get(type_) or catalogue().get(type_)
    if signature is None:
        suggestions = difflib.get_close_matches(type_, sorted(known_expectations()), 1)
        return f"unknown expectation `{type_}`." + (f" Did you mean `{suggestions[0]}`?" if suggestions else "")
    if not signature.spark:
        return f"{type_}: Great Expectations does not implement it for Spark."
    allowed = (*signature.required, *signature.optional)
    for name in sorted(kwargs):
        if name not in allowed and name not in FREE:
            completions = [argument for argument in allowed if argument.startswith(f"{name}_")]
            suggestions = completions or difflib.get_close_matches(name, allowed, 1)
            hint = f"Did you mean `{suggestions[0]}`?" if suggestions else f"Allowed: {', '.join(allowed)}."
            return f"{type_}: unknown argument `{name}`. {hint}"
    missing = [name for name in signature.required if kwargs.get(name) is None]
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        return f"{type_}: missing argument{'s' if len(missing) > 1 else ''} {names}."
    return _check_values(type_, kwargs)


ROWWISE: dict[str, frozenset[str]] = {
    name: frozenset({"column", "mostly", *more})
    for name, more in {
        "expect_column_values_to_not_be_null": (),
        "expect_column_values_to_be_null": (),
        "expect_column_values_to_be_between": ("min_value", "max_value", "strict_min", "strict_max"),
        "expect_column_values_to_be_in_set": ("value_set",),
        "expect_column_values_to_not_be_in_set": ("value_set",),
        "expect_column_values_to_match_regex": ("regex",),
        "expect_column_values_to_not_match_regex": ("regex",),
        "expect_column_value_lengths_to_be_between": ("min_value", "max_value", "strict_min", "strict_max"),
        "expect_column_value_lengths_to_equal": ("value",),
    }.items()
}
"""Row-wise expectations with the arguments that `compiled.py` compiles to a condition on a row."""


def check_failing_rows(type_: str, kwargs: Mapping[str, object]) -> str | None:
    """Return why firesteel cannot identify the rows that fail an expectation, or None if it can.

    Examples
    --------
    >>> check_failing_rows("expect_column_mean_to_be_between", {"column": "x"})
    'expect_column_mean_to_be_between does not check single rows.'
    """
    compiled = ROWWISE.get(type_)
    if compiled is None:
        return f"{type_} does not check single rows."
    uncompiled = sorted(name for name, value in kwargs.items() if name not in compiled | FREE and value is not None)
    return (
        f"{type_} with `{uncompiled[0]}` runs in Great Expectations, which does not identify rows."
        if uncompiled
        else None
    )


def _check_values(type_: str, kwargs: Mapping[str, object]) -> str | None:
    mostly = kwargs.get("mostly")
    number = isinstance(mostly, int | float) and not isinstance(mostly, bool)
    if mostly is not None and not (number and 0 <= mostly <= 1):  # type: ignore[operator]  # a number, by the line above
        return f"{type_}: `mostly` must be a fraction from 0 to 1, not {mostly!r}."
    if problem := unpinned_argument(kwargs):
        return f"{type_}: {problem}"
    if type_ == ROW_COUNT_MATCHES and kwargs.get("less") not in (None, "dead_letter"):
        return f"{type_}: `less` must be dead_letter, not {kwargs['less']!r}."
    return None
