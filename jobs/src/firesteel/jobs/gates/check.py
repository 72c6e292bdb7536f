"""Is an expectation one that a gate can run, and are its arguments right? Known in milliseconds, without Spark."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from firesteel.jobs.gates.catalogue import Signature, catalogue

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
"""Expectations that are firesteel's own: they compare a frame with what the run knows of its other relations and of earlier runs."""

FREE = frozenset({"description", "meta", "notes"})
"""What people write about an expectation: taken by each, and not looked at."""


def known_expectations() -> frozenset[str]:
    """Every type that a gate can run: Great Expectations' on Spark, and ours."""
    return frozenset(name for name, signature in catalogue().items() if signature.spark) | frozenset(OWN)


def check_kwargs(type_: str, kwargs: Mapping[str, object]) -> str | None:
    """What is wrong with an expectation, in one sentence, or None.

    Examples
    --------
    >>> check_kwargs("expect_column_values_to_be_unique", {"colum": "id"})
    'expect_column_values_to_be_unique: unknown argument `colum`. Did you mean `column`?'
    >>> check_kwargs("row_count_matches", {"of": "features", "less": "dead_letter"})
    """
    signature = OWN.get(type_) or catalogue().get(type_)
    if signature is None:
        near = difflib.get_close_matches(type_, sorted(known_expectations()), 1)
        return f"unknown expectation `{type_}`." + (f" Did you mean `{near[0]}`?" if near else "")
    if not signature.spark:
        return f"{type_}: Great Expectations cannot run it on a Spark frame."
    allowed = (*signature.required, *signature.optional)
    for name in sorted(kwargs):
        if name not in allowed and name not in FREE:
            longer = [each for each in allowed if each.startswith(f"{name}_")]
            near = longer or difflib.get_close_matches(name, allowed, 1)
            hint = f"Did you mean `{near[0]}`?" if near else f"It takes: {', '.join(allowed)}."
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
"""Expectations on a row by itself, with the arguments that compile to a condition on it: `compiled.py` compiles them."""


def check_failing_rows(type_: str, kwargs: Mapping[str, object]) -> str | None:
    """Why the rows that fail an expectation cannot be told from the others, in one phrase, or None.

    Examples
    --------
    >>> check_failing_rows("expect_column_mean_to_be_between", {"column": "x"})
    'expect_column_mean_to_be_between says nothing of single rows.'
    """
    known = ROWWISE.get(type_)
    if known is None:
        return f"{type_} says nothing of single rows."
    others = sorted(name for name, value in kwargs.items() if name not in known | FREE and value is not None)
    return f"{type_} with `{others[0]}` is left to Great Expectations, which names no rows." if others else None


def _check_values(type_: str, kwargs: Mapping[str, object]) -> str | None:
    mostly = kwargs.get("mostly")
    number = isinstance(mostly, int | float) and not isinstance(mostly, bool)
    if mostly is not None and not (number and 0 <= mostly <= 1):  # type: ignore[operator]  # a number, by the line above
        return f"{type_}: `mostly` is a fraction from 0 to 1, not {mostly!r}."
    if type_ == ROW_COUNT_MATCHES and kwargs.get("less") not in (None, "dead_letter"):
        return f"{type_}: `less` can only be dead_letter, not {kwargs['less']!r}."
    return None
