"""The outcome of a run, by the ledger and then by the exit code, and what the task does.

============  ==========================================  ============================================
exit code     meaning                                     the task
============  ==========================================  ============================================
0             the ledger has the intervals                succeeds
any           the ledger has them, by this run            succeeds: the driver died after its publish
0             the ledger lacks them                       retries: spark-submit returned 0 for a failure
2             the spec, its SQL or its model is wrong     fails: the same spec fails again
3             a gate failed                               fails, or as `gate_failure` says
4             an input is not ready                       retries, or as `not_ready` says
5             too many rows could not be scored           fails: the same rows fail again
6             data or model changed after the plan        retries with a new plan
7             another driver holds the interval           retries
7, FS7503     the run was cancelled                       fails
130           the driver was interrupted                  fails
1, a signal   storage, Spark or the machine failed        retries
============  ==========================================  ============================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Action = Literal["succeed", "fail", "retry", "reschedule", "skip"]
GateFailure = Literal["fail", "retry", "skip"]
NotReady = Literal["retry", "reschedule", "fail", "skip"]

_CONTRACT = 1
_MEANINGS = {
    1: "failed",
    2: "the spec is wrong",
    3: "a gate failed; nothing was published",
    4: "an input is not ready; nothing was read",
    5: "too many rows could not be scored; nothing was published",
    6: "data or model changed after the plan",
    7: "another driver holds the interval",
    130: "the driver was interrupted",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What the task does about failures caused by data."""

    gate_failure: GateFailure = "fail"
    not_ready: NotReady = "retry"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the task does, why, and what it returns on success."""

    action: Action
    text: str
    result: Mapping[str, Any]


def decide(
    status: Mapping[str, Any],
    run_id: str,
    exit_code: int | None,
    last_error: str,
    policy: Policy,
    *,
    pinned: bool = False,
) -> Outcome:
    """Return the outcome of a run.

    Parameters
    ----------
    status
        The output of `firesteel status --start ... --json` after the run.
    exit_code
        The exit code of the process, if it was observed.
    last_error
        The last error in its log, for a failure without a record in the storage.
    pinned
        The run only stores a plan, and publishes nothing.
    """
    run = next((run for run in status["runs"] if run["run_id"] == run_id), None)
    if run is not None and run["exit_code"] is not None:
        exit_code = run["exit_code"]
    brief = (run or {}).get("brief") or {}
    intervals = status["intervals"]
    result = summarize(brief, status, run_id, exit_code or 0)
    if exit_code == 0:
        missing = [] if pinned else _missing_intervals(brief, intervals)
        if not missing:
            return Outcome("succeed", _done(result), result)
        text = f"the driver ended with 0, but the ledger shows nothing published for {', '.join(missing[:5])}"
        return Outcome("retry", text, result)
    own = [interval for interval in intervals if interval["published"] and interval["published"]["run_id"] == run_id]
    if intervals and len(own) == len(intervals):
        ended = "died" if exit_code is None else f"ended with {exit_code}"
        text = f"the driver {ended} after it had published: {_done(result)}"
        return Outcome("succeed", text, {**result, "state": "published", "exit_code": 0, "error": ""})
    error = str(brief.get("error") or "") or last_error
    if exit_code is None or exit_code < 0:
        what = "the driver died" if exit_code is None else f"the driver was killed by signal {-exit_code}"
        return Outcome("retry", f"{what}; its unfinished intervals are not published. {error}".strip(), result)
    return decide_by_code(exit_code, error, policy, result)


def decide_by_code(exit_code: int, error: str, policy: Policy, result: Mapping[str, Any] | None = None) -> Outcome:
    """Return the outcome of a run by its exit code, for a run that the ledger does not decide."""
    meaning = _MEANINGS.get(exit_code, f"ended with {exit_code}")
    return Outcome(_action(exit_code, error, policy), f"{meaning}: {error}" if error else meaning, result or {})


def _action(exit_code: int, error: str, policy: Policy) -> Action:
    if exit_code == 3:
        return policy.gate_failure
    if exit_code == 4:
        return policy.not_ready
    if exit_code in {2, 5, 130} or "FS7503" in error:
        return "fail"
    return "retry"


def _missing_intervals(brief: Mapping[str, Any], intervals: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the intervals that should be published but are not. A run may skip an interval without input."""
    known = {interval["interval"]: interval["state"] for interval in brief.get("intervals", ())}
    return [
        f"{interval['sink']} {interval['interval']}"
        for interval in intervals
        if interval["published"] is None and known.get(interval["interval"], "published") == "published"
    ]


def summarize(brief: Mapping[str, Any], status: Mapping[str, Any], run_id: str, exit_code: int) -> dict[str, Any]:
    """Return what the task returns: the summary of the run. Intervals that another run has published come from the ledger.

    The keys are those of `firesteel.pipelines.brief`, and `published_by` of each interval.
    """
    published = {
        interval["interval"]: interval["published"] for interval in status["intervals"] if interval["published"]
    }
    summary: dict[str, Any] = {
        "contract": _CONTRACT,
        "run_id": run_id,
        "pipeline": status["pipeline"],
        "profile": status["profile"],
        "state": "unknown",
        "exit_code": exit_code,
        "started_at": "",
        "seconds": 0.0,
        "rows": {},
        "intervals": [{"interval": name, "state": "published"} for name in published],
        "intervals_total": len(published),
        "sinks": {interval["sink"]: interval["path"] for interval in status["intervals"]},
        "gates": [],
        "mlflow_run_id": "",
        "report": "",
        "error": "",
        **brief,
    }
    summary["intervals"] = [
        _interval(interval, published.get(interval["interval"])) for interval in summary["intervals"]
    ]
    if not summary["rows"]:
        summary["rows"] = {"scored": sum(interval["rows"] for interval in summary["intervals"])}
    return summary


def _interval(interval: Mapping[str, Any], record: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the summary of an interval."""
    facts = {
        "interval": interval["interval"],
        "state": interval["state"],
        "published_by": record["run_id"] if record else "",
        "rows": interval.get("rows", 0),
        "partitions_total": interval.get("partitions_total", 0),
        "partitions": interval.get("partitions", []),
        "files": interval.get("files", 0),
        "bytes": interval.get("bytes", 0),
        "reason": interval.get("reason", ""),
        "error": interval.get("error", ""),
    }
    if record is None or facts["files"]:
        return facts
    from_ledger = {key: record[key] for key in ("files", "bytes", "partitions", "partitions_total")}
    return {**facts, **from_ledger, "rows": record["rows"]["scored"]}


def _done(result: Mapping[str, Any]) -> str:
    partitions = sum(interval["partitions_total"] for interval in result["intervals"])
    scored = result["rows"].get("scored", 0)
    intervals = _plural(result["intervals_total"], "interval")
    return f"{result['state']}, {intervals}, {_plural(partitions, 'partition')}, {_plural(scored, 'row')} scored"


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
