"""Settings that cannot hold together: within `resources`, and between it and `configuration`. Each error says why.

`configuration` is applied last. Where it sets what `resources` was silent about, that is what it is for; where both say something
and not the same, one of them would say what is not so.
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
"""Least address space of a Python worker: 444 MiB are mapped once pyarrow, pandas and MLflow are imported, without any model."""

_DYNAMIC = "spark.dynamicAllocation"
_SPECULATION = "spark.speculation"
_TIME = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


class _Found(NamedTuple):
    path: KeyPath
    what: str
    hint: str = ""


def contradictions(spec: Spec, tree: Node) -> list[FiresteelError]:
    """One FS1017 for each pair of settings that cannot both hold."""
    found = [*_within(spec), *_said_twice(spec)]
    if spec.resources.local_cores is None and spec.resources.executors is not None:
        found += _against_configuration(spec, spec.resources.executors)
    return [
        SpecError("FS1017", each.what, where=tree.nearest(each.path).where, hint=each.hint)
        for each in dict.fromkeys(found)
    ]


def _within(spec: Spec) -> Iterator[_Found]:
    executors = spec.resources.executors
    if executors is None:
        return
    path: KeyPath = ("resources", "executors")
    low, high, initial = executors.min, executors.max, executors.initial
    if high is not None and low > high:
        yield _Found((*path, "min"), f"resources.executors.min {low} is more than max {high}.")
    elif initial != "auto" and (initial < low or (high is not None and initial > high)):
        limit = f"below min {low}" if initial < low else f"above max {high}"
        yield _Found((*path, "initial"), f"resources.executors.initial {initial} is {limit}.")
    if executors.python_memory:
        each = parse_size(executors.python_memory) // executors.cores
        if each < WORKER_BYTES:
            yield _Found(
                (*path, "python_memory"),
                f"resources.executors.python_memory {executors.python_memory} over {plural(executors.cores, 'core')} leaves "
                f"{byte_size(each)} for each Python worker, which cannot import pyarrow, pandas and MLflow in less than "
                f"{byte_size(WORKER_BYTES)}.",
                f"Give it at least {executors.cores * WORKER_BYTES >> 20}m, or leave it out: then nothing limits a worker.",
            )


def _said_twice(spec: Spec) -> Iterator[_Found]:
    """A setting that stands in both places, with two values."""
    configuration = spec.configuration
    for key, place, value, same in _compiled(spec):
        given = configuration.get(key)
        if given is not None and not same(given, value):
            yield _Found(
                ("configuration", key),
                f"configuration.{key} is {given}, and {place} says {value}: `configuration` is applied last, so that "
                f"{place} would not hold.",
                "Keep one of them.",
            )


_Same = Callable[[str, str], bool]


def _compiled(spec: Spec) -> Iterator[tuple[str, str, str, _Same]]:
    """(Spark's key, our place, our value, how to compare) of all that the spec itself says."""
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
        for name in Executors.model_fields:  # in the order of the language
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


def _against_configuration(spec: Spec, executors: Executors) -> Iterator[_Found]:
    """What `configuration` sets that executors which come and go cannot have."""
    configuration = {key: value.strip().lower() for key, value in spec.configuration.items()}

    def at(key: str, why: str, hint: str = "") -> _Found:
        return _Found(("configuration", key), f"configuration.{key} is {spec.configuration[key]}, and {why}.", hint)

    if configuration.get(f"{_DYNAMIC}.enabled") == "false":
        yield at(
            f"{_DYNAMIC}.enabled",
            "resources.executors describes executors that come and go",
            "For a fixed number set `min` and `max` to it.",
        )
    if "spark.executor.instances" in configuration:
        yield at(
            "spark.executor.instances",
            "under dynamic allocation Spark only begins with that many",
            "Set resources.executors.initial, or `min` and `max` to the same number.",
        )
    rdma = spec.resources.shuffle.manager == "rdma"
    if rdma and configuration.get(f"{_DYNAMIC}.shuffleTracking.enabled") == "true":
        yield at(
            f"{_DYNAMIC}.shuffleTracking.enabled",
            "with shuffle.manager rdma map outputs are not on executors: tracking would keep those for nothing",
        )
    if rdma and configuration.get("spark.shuffle.service.enabled") == "true":
        yield at(
            "spark.shuffle.service.enabled",
            "with shuffle.manager rdma map outputs are with firesteel's service: Spark's own would not find them",
        )
    tracking = configuration.get(f"{_DYNAMIC}.shuffleTracking.enabled") != "false"
    moves = executors.decommission and configuration.get("spark.storage.decommission.shuffleblocks.enabled") != "false"
    if not (rdma or tracking or moves or configuration.get("spark.shuffle.service.enabled") == "true"):
        yield at(
            f"{_DYNAMIC}.shuffleTracking.enabled",
            "without it, an external service or decommission map outputs would go with executors: Spark does not start so",
        )
    yield from _counts(spec, executors, at)


def _counts(spec: Spec, executors: Executors, at: Callable[..., _Found]) -> Iterator[_Found]:
    """Numbers that leave no executor, or no task, a place."""
    configuration = spec.configuration

    def number(key: str, otherwise: int | None) -> int | None:
        text = configuration.get(key, "").strip()
        return int(text) if text.isdigit() else otherwise

    low_key, high_key = f"{_DYNAMIC}.minExecutors", f"{_DYNAMIC}.maxExecutors"
    low, high = number(low_key, executors.min), number(high_key, executors.max)
    if low is not None and high is not None and low > high and not executors.min == low > high == executors.max:
        key = high_key if high_key in configuration else low_key
        yield at(key, f"at least {plural(low, 'executor')} and at most {high} cannot be")
    cores, cpus = number("spark.executor.cores", executors.cores), number("spark.task.cpus", spec.workers.cpus)
    assert cores is not None
    assert cpus is not None
    if cpus > cores and "spark.task.cpus" in configuration:
        yield at("spark.task.cpus", f"an executor has {plural(cores, 'core')}: no task would ever run")
    ceiling = number("spark.cores.max", None)
    if ceiling is not None:
        fit = ceiling // cores
        if fit < (low or 0) or fit == 0:
            yield at(
                "spark.cores.max", f"that is {plural(fit, 'executor')} of {plural(cores, 'core')}, fewer than needed"
            )
        elif executors.max is not None and fit < executors.max:
            yield at(
                "spark.cores.max",
                f"that is {plural(fit, 'executor')} of {plural(cores, 'core')}: resources.executors.max {executors.max} "
                "would never be reached",
                f"Set `max: {fit}`, or leave spark.cores.max out.",
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
