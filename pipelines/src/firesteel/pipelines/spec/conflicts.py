"""Conflicts between settings: within `resources`, and between `resources` and `configuration`.

`configuration` is applied last. It may set a key that `resources` leaves open. If both set a key to different values, one of
them would have no effect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from firesteel.conf.errors import FiresteelError, SpecError
from firesteel.conf.quantities import byte_size, plural
from firesteel.pipelines.spec.model import Executors, ScoreStep, Spec
from firesteel.pipelines.spec.tree import KeyPath, Node
from firesteel.pipelines.spec.values import parse_size

WORKER_BYTES = 512 << 20
"""Least address space of a Python worker: the imports of pyarrow, pandas and MLflow map 444 MiB, without a model."""

_DYNAMIC = "spark.dynamicAllocation"
_SPECULATION = "spark.speculation"
_TIME = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


class _Conflict(NamedTuple):
    path: KeyPath
    what: str
    hint: str = ""


def setting_conflicts(spec: Spec, tree: Node) -> list[FiresteelError]:
    """Return one FS1017 for each pair of settings that conflict."""
    conflicts = [*_within_resources(spec), *_duplicates(spec)]
    if spec.resources.local_cores is None and spec.resources.executors is not None:
        conflicts += _with_configuration(spec, spec.resources.executors)
    return [
        SpecError("FS1017", conflict.what, where=tree.nearest(conflict.path).where, hint=conflict.hint)
        for conflict in dict.fromkeys(conflicts)
    ]


def _within_resources(spec: Spec) -> Iterator[_Conflict]:
    executors = spec.resources.executors
    if executors is None:
        return
    path: KeyPath = ("resources", "executors")
    low, high, initial = executors.min, executors.max, executors.initial
    if high is not None and low > high:
        yield _Conflict((*path, "min"), f"resources.executors.min {low} is more than max {high}.")
    elif initial != "auto" and (initial < low or (high is not None and initial > high)):
        limit = f"below min {low}" if initial < low else f"above max {high}"
        yield _Conflict((*path, "initial"), f"resources.executors.initial {initial} is {limit}.")
    if executors.python_memory:
        worker_bytes = parse_size(executors.python_memory) // executors.cores
        if worker_bytes < WORKER_BYTES:
            yield _Conflict(
                (*path, "python_memory"),
                f"resources.executors.python_memory {executors.python_memory} for {plural(executors.cores, 'core')} leaves "
                f"{byte_size(worker_bytes)} for each Python worker; the imports of pyarrow, pandas and MLflow need "
                f"{byte_size(WORKER_BYTES)}.",
                f"Set it to at least {executors.cores * WORKER_BYTES >> 20}m, or remove it; then workers have no limit.",
            )


def _duplicates(spec: Spec) -> Iterator[_Conflict]:
    """Yield settings that have two different values."""
    configuration = spec.configuration
    for key, place, value, same in _compiled(spec):
        given = configuration.get(key)
        if given is not None and not same(given, value):
            yield _Conflict(
                ("configuration", key),
                f"configuration.{key} is {given}, but {place} is {value}; `configuration` is applied last, so {place} would "
                "have no effect.",
                "Remove one of them.",
            )


_Same = Callable[[str, str], bool]


def _compiled(spec: Spec) -> Iterator[tuple[str, str, str, _Same]]:
    """Yield (Spark's key, key of the spec, its value, comparison) for each setting that the spec compiles."""
    resources = spec.resources
    executors = resources.executors
    if executors is not None and resources.local_cores is None:
        kinds: dict[str, tuple[str, _Same]] = {
            "min": (f"{_DYNAMIC}.minExecutors", _same_text),
            "max": (f"{_DYNAMIC}.maxExecutors", _same_text),
            "initial": (f"{_DYNAMIC}.initialExecutors", _same_text),
            "cores": ("spark.executor.cores", _same_text),
            "memory": ("spark.executor.memory", _same_size),
            "python_memory": ("spark.executor.pyspark.memory", _same_size),
            "idle_timeout": (f"{_DYNAMIC}.executorIdleTimeout", _same_time),
            "backlog_timeout": (f"{_DYNAMIC}.schedulerBacklogTimeout", _same_time),
            "decommission": ("spark.decommission.enabled", _same_text),
        }
        for name in Executors.model_fields:
            value = getattr(executors, name)
            if name in kinds and name in executors.model_fields_set and value not in ("auto", None):
                key, same = kinds[name]
                text = f"{value:g}s" if same is _same_time else str(value).lower()
                yield key, f"resources.executors.{name}", text, same
    for name, step in spec.steps.items():
        if isinstance(step, ScoreStep) and "cpus" in step.score.workers.model_fields_set:
            yield "spark.task.cpus", f"steps.{name}.score.workers.cpus", str(step.score.workers.cpus), _same_text
    if spec.interval.batch_concurrency > 1:
        yield "spark.scheduler.mode", "interval.batch_concurrency", "FAIR", _same_text
    if resources.queue:
        yield "spark.yarn.queue", "resources.queue", resources.queue, _same_text
    if resources.speculation is not None:
        speculation, place = resources.speculation, "resources.speculation"
        yield _SPECULATION, place, "true", _same_text
        yield f"{_SPECULATION}.quantile", f"{place}.quantile", f"{speculation.quantile:g}", _same_number
        yield f"{_SPECULATION}.multiplier", f"{place}.multiplier", f"{speculation.multiplier:g}", _same_number
        yield f"{_SPECULATION}.minTaskRuntime", f"{place}.min_runtime", f"{speculation.min_runtime:g}s", _same_time


def _with_configuration(spec: Spec, executors: Executors) -> Iterator[_Conflict]:
    """Yield settings of `configuration` that conflict with dynamic allocation."""
    configuration = {key: value.strip().lower() for key, value in spec.configuration.items()}

    def at(key: str, why: str, hint: str = "") -> _Conflict:
        return _Conflict(("configuration", key), f"configuration.{key} is {spec.configuration[key]}, but {why}.", hint)

    if configuration.get(f"{_DYNAMIC}.enabled") == "false":
        yield at(
            f"{_DYNAMIC}.enabled",
            "resources.executors uses dynamic allocation",
            "Set `min` and `max` to the same number for a fixed number of executors.",
        )
    if "spark.executor.instances" in configuration:
        yield at(
            "spark.executor.instances",
            "under dynamic allocation it is only the initial number",
            "Set resources.executors.initial, or `min` and `max` to the same number.",
        )
    rdma = spec.resources.shuffle.manager == "rdma"
    if rdma and configuration.get(f"{_DYNAMIC}.shuffleTracking.enabled") == "true":
        yield at(
            f"{_DYNAMIC}.shuffleTracking.enabled",
            "with shuffle.manager rdma, executors hold no map outputs, so tracking would keep idle executors",
        )
    if rdma and configuration.get("spark.shuffle.service.enabled") == "true":
        yield at(
            "spark.shuffle.service.enabled",
            "with shuffle.manager rdma, firesteel's service holds the map outputs and Spark's service cannot find them",
        )
    tracking = configuration.get(f"{_DYNAMIC}.shuffleTracking.enabled") != "false"
    moves = executors.decommission and configuration.get("spark.storage.decommission.shuffleblocks.enabled") != "false"
    if not (rdma or tracking or moves or configuration.get("spark.shuffle.service.enabled") == "true"):
        yield at(
            f"{_DYNAMIC}.shuffleTracking.enabled",
            "Spark needs shuffle tracking, an external shuffle service or decommissioning to keep map outputs, and does not start",
        )
    yield from _counts(spec, executors, at)


def _counts(spec: Spec, executors: Executors, at: Callable[..., _Conflict]) -> Iterator[_Conflict]:
    """Yield numbers that leave no room for an executor or a task."""
    configuration = spec.configuration

    def number(key: str, otherwise: int | None) -> int | None:
        text = configuration.get(key, "").strip()
        return int(text) if text.isdigit() else otherwise

    low_key, high_key = f"{_DYNAMIC}.minExecutors", f"{_DYNAMIC}.maxExecutors"
    low, high = number(low_key, executors.min), number(high_key, executors.max)
    if low is not None and high is not None and low > high and not executors.min == low > high == executors.max:
        key = high_key if high_key in configuration else low_key
        yield at(key, f"the minimum of {plural(low, 'executor')} is above the maximum of {high}")
    cores, cpus = number("spark.executor.cores", executors.cores), number("spark.task.cpus", spec.workers.cpus)
    assert cores is not None
    assert cpus is not None
    if cpus > cores and "spark.task.cpus" in configuration:
        yield at("spark.task.cpus", f"an executor has only {plural(cores, 'core')}, so no task would run")
    ceiling = number("spark.cores.max", None)
    if ceiling is not None:
        fit = ceiling // cores
        if fit < (low or 0) or fit == 0:
            yield at(
                "spark.cores.max",
                f"it allows {plural(fit, 'executor')} with {plural(cores, 'core')}, fewer than required",
            )
        elif executors.max is not None and fit < executors.max:
            yield at(
                "spark.cores.max",
                f"it allows {plural(fit, 'executor')} with {plural(cores, 'core')}, fewer than resources.executors.max "
                f"{executors.max}",
                f"Set `max: {fit}`, or remove spark.cores.max.",
            )


def _same_text(given: str, value: str) -> bool:
    return given.strip().lower() == value.lower()


def _same_number(given: str, value: str) -> bool:
    try:
        return float(given) == float(value)
    except ValueError:
        return False


def _same_size(given: str, value: str) -> bool:
    return _bytes(given) == _bytes(value)


def _bytes(text: str) -> int | str:
    match = re.fullmatch(r"(\d+)\s*([kmgt]?)b?", text.strip().lower())
    if not match:
        return text
    return int(match[1]) << {"": 20, "k": 10, "m": 20, "g": 30, "t": 40}[match[2]]  # a bare number is MiB here


def _same_time(given: str, value: str) -> bool:
    return _seconds(given) == _seconds(value)


def _seconds(text: str) -> float | str:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s|min|m|h|d)?", text.strip().lower())
    return float(match[1]) * _TIME[match[2] or "s"] if match else text
