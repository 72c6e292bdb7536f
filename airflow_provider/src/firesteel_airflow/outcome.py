"""What became of a run, from the ledger first and the exit code second, and what Airflow shall do about it.

============  ==========================================  ============================================
exit code     meaning                                     the task
============  ==========================================  ============================================
0             the ledger shows the intervals              succeeds
any           the ledger shows them, by this run          succeeds: the driver died after its publish
0             the ledger does not show them               is tried again: spark-submit said 0 for a failure
2             the spec, its SQL or its model              fails: the same spec fails again
3             a gate refused the data                     fails, or as `gate_failure` says
4             an input is not ready                       is tried again, or as `not_ready` says
5             too many rows could not be scored           fails: the same rows fail again
6             what was planned has moved                  is tried again, with a new plan
7             another driver holds the interval           is tried again
7, FS7503     somebody cancelled the run                  fails
130           somebody ended the driver                   fails
1, a signal   storage, Spark, the machine                 is tried again
============  ==========================================  ============================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Then = Literal["succeed", "fail", "retry", "reschedule", "skip"]
GateFailure = Literal["fail", "retry", "skip"]
NotReady = Literal["retry", "reschedule", "fail", "skip"]

_CONTRACT = 1
_WORDS = {
    1: "failed",
    2: "the spec is wrong",
    3: "a gate refused the data; nothing was published",
    4: "an input is not ready; nothing was read",
    5: "too many rows could not be scored; nothing was published",
    6: "what was planned has moved",
    7: "another driver holds the interval",
    130: "was ended",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What the task says about failures that are the data's."""

    gate_failure: GateFailure = "fail"
    not_ready: NotReady = "retry"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the task does now, why, and what it returns when it succeeds."""

    then: Then
    text: str
    result: Mapping[str, Any]


def decide(
    found: Mapping[str, Any], run_id: str, exit_code: int | None, said: str, policy: Policy, *, pinned: bool = False
) -> Outcome:
    """Judge a run.

    Parameters
    ----------
    found
        The output of `firesteel status --start ... --json` after the run.
    exit_code
        Of the process, where one was seen to end.
    said
        Its last words, for a failure that the storage has no record of.
    pinned
        The run was only to keep a plan: nothing has to be published.
    """
    run = next((each for each in found["runs"] if each["run_id"] == run_id), None)
    if run is not None and run["exit_code"] is not None:
        exit_code = run["exit_code"]
    brief = (run or {}).get("brief") or {}
    intervals = found["intervals"]
    result = summary(brief, found, run_id, exit_code or 0)
    if exit_code == 0:
        lacking = [] if pinned else _lacking(brief, intervals)
        if not lacking:
            return Outcome("succeed", _done(result), result)
        text = f"the driver ended with 0, and the ledger shows nothing published for {', '.join(lacking[:5])}"
        return Outcome("retry", text, result)
    mine = [interval for interval in intervals if interval["published"] and interval["published"]["run_id"] == run_id]
    if intervals and len(mine) == len(intervals):
        ended = "died" if exit_code is None else f"ended with {exit_code}"
        text = f"the driver {ended} after it had published: {_done(result)}"
        return Outcome("succeed", text, {**result, "state": "published", "exit_code": 0, "error": ""})
    error = str(brief.get("error") or "") or said
    if exit_code is None or exit_code < 0:
        what = "the driver died" if exit_code is None else f"the driver was killed by signal {-exit_code}"
        return Outcome("retry", f"{what}; nothing of what it was at is published. {error}".strip(), result)
    text = f"{_WORDS.get(exit_code, f'ended with {exit_code}')}: {error}" if error else _WORDS.get(exit_code, "failed")
    return Outcome(_then(exit_code, error, policy), text, result)


def by_code(exit_code: int, said: str, policy: Policy) -> Outcome:
    """Judge a run that came to its end before it could say anything in the storage."""
    words = _WORDS.get(exit_code, f"ended with {exit_code}")
    return Outcome(_then(exit_code, said, policy), f"{words}: {said}" if said else words, {})


def _then(exit_code: int, error: str, policy: Policy) -> Then:
    if exit_code == 3:
        return policy.gate_failure
    if exit_code == 4:
        return policy.not_ready
    if exit_code in {2, 5, 130} or "FS7503" in error:
        return "fail"
    return "retry"


def _lacking(brief: Mapping[str, Any], intervals: Sequence[Mapping[str, Any]]) -> list[str]:
    """Intervals that should be published and are not. A run that skipped one may have had no input for it."""
    known = {each["interval"]: each["state"] for each in brief.get("intervals", ())}
    return [
        f"{interval['sink']} {interval['interval']}"
        for interval in intervals
        if interval["published"] is None and known.get(interval["interval"], "published") == "published"
    ]


def summary(brief: Mapping[str, Any], found: Mapping[str, Any], run_id: str, exit_code: int) -> dict[str, Any]:
    """What the task returns: the run in brief; what another run had published is told from the ledger.

    The keys are those of `firesteel.pipelines.brief`, and `published_by` of each interval.
    """
    published = {each["interval"]: each["published"] for each in found["intervals"] if each["published"]}
    made: dict[str, Any] = {
        "contract": _CONTRACT,
        "run_id": run_id,
        "pipeline": found["pipeline"],
        "profile": found["profile"],
        "state": "unknown",
        "exit_code": exit_code,
        "started_at": "",
        "seconds": 0.0,
        "rows": {},
        "intervals": [{"interval": name, "state": "published"} for name in published],
        "intervals_total": len(published),
        "sinks": {each["sink"]: each["path"] for each in found["intervals"]},
        "gates": [],
        "mlflow_run_id": "",
        "report": "",
        "error": "",
        **brief,
    }
    made["intervals"] = [_interval(each, published.get(each["interval"])) for each in made["intervals"]]
    if not made["rows"]:
        made["rows"] = {"scored": sum(each["rows"] for each in made["intervals"])}
    return made


def _interval(each: Mapping[str, Any], record: Mapping[str, Any] | None) -> dict[str, Any]:
    """One interval, what matters to a reader first."""
    made = {
        "interval": each["interval"],
        "state": each["state"],
        "published_by": record["run_id"] if record else "",
        "rows": each.get("rows", 0),
        "partitions_total": each.get("partitions_total", 0),
        "partitions": each.get("partitions", []),
        "files": each.get("files", 0),
        "bytes": each.get("bytes", 0),
        "reason": each.get("reason", ""),
        "error": each.get("error", ""),
    }
    if record is None or made["files"]:
        return made
    from_ledger = {key: record[key] for key in ("files", "bytes", "partitions", "partitions_total")}
    return {**made, **from_ledger, "rows": record["rows"]["scored"]}


def _done(result: Mapping[str, Any]) -> str:
    partitions = sum(each["partitions_total"] for each in result["intervals"])
    scored = result["rows"].get("scored", 0)
    return (
        f"{result['state']}, {result['intervals_total']:,} intervals, {partitions:,} partitions, {scored:,} rows scored"
    )
