"""Write docs/reference/performance.md from the figures in benchmarks/results.

python benchmarks/page.py
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "reference" / "performance.md"


def main() -> None:
    """Write the page."""
    compiling = _results("compile")
    environment = compiling["environment"]
    head = (
        "# Performance\n\n"
        "Written by `python benchmarks/page.py`. Each section names the command that measures it; raw numbers and the environment\n"
        f"are in `benchmarks/results/`. The machine has {environment['cores']} cores, shared with other work "
        f"(load {environment['load']:.1f} at the end of the first run):\nratios say more than seconds.\n"
    )
    sections = [
        _compiling(compiling),
        _scoring(_results("scoring")),
        _gates(_results("gates")),
        _transaction(_results("transaction")),
    ]
    elasticity = _results("elasticity")
    if all(elasticity.get(part) for part in ("rounds", "overhead", "loss")):
        sections.append(_elasticity(elasticity))
    if spark := _results("shuffle_spark"):
        sections.append(_shuffle(spark, _results("shuffle_verbs")))
    PAGE.write_text("\n".join([head, *sections]), encoding="utf-8")


def _compiling(found: Any) -> str:
    wanted = {"200": "2 s"}
    steps = [(f"{count} steps", _median(values), wanted.get(count, "")) for count, values in found["steps"].items()]
    commands = [
        ("`firesteel --help`", _median(found["help"]), "0.3 s"),
        ("`firesteel validate` of the flights example", _median(found["validate"]), "0.5 s"),
    ]
    plans = [("one day (274 partitions) of the 100,000", _median(found["one day of all partitions"]), "", "")]
    for each in found["partitions"]:
        peak = f"{each['peak_mib']:.0f} MiB"
        plans.append((f"{each['partitions']:,} partitions", f"{each['seconds']:.2f} s", f"{each['cpu_s']:.2f} s", peak))
    return (
        "## Compiling\n\n`python benchmarks/compile.py`. Cold processes, medians.\n\n"
        + _table(("what", "measured", "wanted"), [*commands, *steps])
        + "\nPlans over partitions of a real NameNode, one file each, listed by batched RPC (ADR 4); "
        "wanted: 100,000 in 5 s and 300 MiB.\n\n"
        + _table(("a plan of", "time", "of it CPU of the planner, with imports", "peak memory"), plans)
    )


def _scoring(found: Any) -> str:
    warm, against = [], []
    for each in found["warm"]:
        seconds = {name: statistics.median(values) for name, values in each["seconds"].items()}
        for form in ("native", "compiled"):
            if f"limit, {form}" in seconds:
                limit, ours, udf = seconds[f"limit, {form}"], seconds[f"firesteel, {form}"], seconds["spark_udf"]
                name = f"{each['model']}, {form}, {each['rows']:,} rows"
                warm.append((name, f"{limit:.2f} s", f"{ours:.2f} s", f"{udf:.2f} s", f"{limit / ours:.2f}"))
                against.append((name, f"{udf / ours:.1f}"))
    ratios = dict(against)
    joined = {name: statistics.median(values) for name, values in found["join"]["seconds"].items()}
    engines = list(found["whole"][0]["seconds"])
    whole = [
        (f"{each['model']}, {each['rows']:,} rows", *(f"{each['seconds'][name][0]:.1f} s" for name in engines))
        for each in found["whole"]
    ]
    memory = [
        (f"{each['rows']:,}", f"{each['own_mib']:.0f} MiB", f"{each['peak_mib']:.0f} MiB") for each in found["memory"]
    ]
    repeats = len(found["join"]["seconds"]["firesteel"])
    return (
        f"## Scoring\n\n`python benchmarks/scoring.py`. Parquet in, Parquet out, 30 `float32` features, `local[2]`. In one warm session, "
        f"interleaved, medians of {repeats}, from\nplanning to published files, with staging, audit, journal and MLflow. The limit is two "
        "processes without any engine that scan, score and write\nwith pyarrow and the same form of the model (ADR 5).\n\n"
        + _table(
            ("what", "the limit", "firesteel", "`spark_udf`", "limit / firesteel", "`spark_udf` / firesteel"),
            [(*row, ratios[row[0]]) for row in warm],
        )
        + "\nWanted: 0.9 of the limit; against `spark_udf` 1.2 (LightGBM native), 6 (compiled) and 8 (logistic regression). "
        "What is missing is "
        "mostly fixed and not by the row: about\n0.3 s of plan, records and report a run, 0.1 s of Spark's scheduling, and the audit, "
        "which reads the scores once more.\n\n"
        f"A join in front ({found['join']['rows']:,} rows, LightGBM, compiled form on both sides): hand-written `mapInArrow` "
        f"{joined['hand-written']:.2f} s, firesteel {joined['firesteel']:.2f} s; {joined['hand-written'] / joined['firesteel']:.2f} of it, "
        "wanted 0.8.\n\n"
        "Whole processes, started cold, once each, with other work on the machine; the others score with the library's own form on bare files:\n\n"
        + _table(("what", *(f"`{name}`" for name in engines)), whole)
        + "\nA run pays some 15 s before its first row on this machine: JVM and session 5 s, Python workers with MLflow and the model 3 s, code "
        "generation, and 7 s\nto compile a LightGBM model once a session. On one machine a loop over files has none of this, and stays ahead for "
        "light models: firesteel's place is where\ndata and cores are on many.\n\n"
        "Memory of the largest Python worker, logistic regression; the second figure counts the pages of mapped input files, at most one split "
        "of 128 MiB:\n\n" + _table(("rows", "its own", "with mapped files"), memory)
    )


def _gates(found: Any) -> str:
    rows = [
        (f"{each['rows']:,}", *map(_median, each["seconds"].values()), each["ratios"]["great expectations / compiled"])
        for each in found["sizes"]
    ]
    repeats = len(found["sizes"][0]["seconds"]["scan"])
    return (
        f"## Gates\n\n`python benchmarks/gates.py`. {found['expectations']} expectations on Parquet in one warm session, "
        f"`local[2]`, medians of {repeats}, without the import of\n"
        "Great Expectations (6 to 12 s), which a gate that compiles whole never pays.\n\n"
        + _table(
            ("rows", "a count of every column", "compiled to one pass", "Great Expectations on Spark", "ratio"), rows
        )
        + "\nWanted: five times. Great Expectations 1.24 bundles these metrics into few jobs itself, so that on large frames both are "
        "bound by the\nsame conditions over the same rows; where jobs are all overhead, as on a day of flights, one pass shows. It takes "
        "six times the bare scan\nitself, so that five times is a fifth over the scan for ten conditions; the regular expression alone, "
        "which is Java's for both, takes half\nof the compiled time (3.1 of 5.4 s over 5 million rows, on a busy machine).\n"
    )


def _transaction(found: Any) -> str:
    rounds = found["rounds"]
    names = list(rounds[0]["stages"])
    rows = [
        ("a bare write by Spark", _median([each["bare"] for each in rounds])),
        *((f"the run's stage `{name}`", _median([each["stages"][name] for each in rounds])) for name in names),
        ("the whole call, with MLflow and the report", _median([each["run"] for each in rounds])),
    ]
    ratios = found["ratios"]
    return (
        f"## The transaction\n\n`python benchmarks/transaction.py`. {found['rows']:,} rows on a real HDFS in one warm session, "
        f"the same SELECT and layout, interleaved, medians of {len(rounds)}.\n\n"
        + _table(("what", "time"), rows)
        + f"\nThe stages together are {ratios['transaction / bare']} times the bare write, the whole call {ratios['run / bare']} "
        "times; wanted: 1.1 at ten million rows.\n"
        "Half a second of it is fixed: a publish waits once, 0.43 s, where HDFS's own client naps before it asks again whether the "
        "DataNode has\nreported a block (dfs.client.block.write.locateFollowingBlock.initial.delay.ms, 400); else it takes 0.15 s. The "
        "rest is likely Spark's\ncount of the rows on their way.\n"
    )


def _elasticity(found: Any) -> str:
    runs_of = [each["runs"] for each in found["rounds"]]
    before, rounds = runs_of[:-3], runs_of[-3:]
    slow = statistics.median(wait for each in before for wait in each["firesteel"]["scale_out_s"])
    rows = []
    for name in rounds[0]:
        runs = [each[name] for each in rounds]
        waits = [wait for run in runs for wait in run["scale_out_s"]]
        over = statistics.median(run["executor_seconds"] / run["ideal_executor_seconds"] for run in runs)
        fixed = statistics.median(
            each[name]["executor_seconds"] / each["fixed at the peak"]["executor_seconds"] for each in rounds
        )
        rows.append(
            (
                name,
                _median([run["makespan_s"] for run in runs]),
                f"{statistics.median(run['executor_seconds'] for run in runs):.0f}",
                f"{over:.2f}",
                f"{fixed:.2f}",
                f"{statistics.median(waits):.1f} s" if waits else "",
            )
        )
    lost = [each["runs"] for each in found["loss"]]
    adds = [run["killed"]["makespan_s"] / run["quiet"]["makespan_s"] - 1 for run in lost]
    scoring = [run["killed"]["scoring_s"] / run["quiet"]["scoring_s"] - 1 for run in lost]
    starts = [each["seconds"] for each in found["overhead"]]
    more = statistics.median(each["firesteel run"] - each["spark-submit"] for each in starts)
    head = (
        "way",
        "makespan",
        "executor-seconds",
        "of the ideal",
        "of the fixed size",
        "backlog to a new executor at work",
    )
    return (
        "## Elasticity\n\n`python benchmarks/elasticity.py`. Nine days of one file and a burst of 64 on a real standalone cluster with room for "
        f"four executors of one core; the model\nsleeps, so that two cores are enough for four; {len(rounds)} rounds, medians. The ideal has an "
        "executor for each running task, and one that is always there.\n\n"
        + _table(head, rows)
        + "\nWanted: 1.15 of the ideal, three quarters of the fixed size, 5 s from backlog to a new executor at work. "
        f"That last is\nthe start of JVMs and Python: on a machine about half as fast it was {slow:.1f} s ({len(before)} rounds before).\n\n"
        f"An executor killed at nine tenths of an interval's tasks adds {statistics.median(adds):.0%} to the makespan and "
        f"{statistics.median(scoring):.0%} to the scoring stage (medians of {len(lost)};\nwanted: at most 15 %). From the command to the first "
        f"task `firesteel run` takes {_median([each['firesteel run'] for each in starts])}, a hand-written job by `spark-submit` "
        f"{_median([each['spark-submit'] for each in starts])} (medians of {len(starts)});\n"
        f"the median of the differences is {more:.1f} s (wanted: at most 2 s).\n\n"
        "What other sizes would do is simulated from recorded tasks: [elasticity](../concepts/elasticity.md).\n"
    )


def _shuffle(spark: Any, verbs: Any) -> str:
    parts = []
    for place in dict.fromkeys(each["place"] for each in spark["ratios"]):
        each_job = [each for each in spark["ratios"] if each["place"] == place]
        others = [name for name in each_job[0] if isinstance(each_job[0][name], dict) and name != "firesteel"]
        head = ["job", "firesteel", *others]
        head += [f"time / {name}" for name in others] + [f"CPU / {name}" for name in others]
        rows = []
        for each in each_job:
            row = [each["job"], *(f"{each[name]['seconds']:.2f} s" for name in ("firesteel", *others))]
            row += [f"{each[name]['firesteel / it, seconds']:.2f}" for name in others]
            row += [f"{each[name]['firesteel / it, cpu_seconds']:.2f}" for name in others]
            rows.append(tuple(row))
        parts.append(f"{place.capitalize()}:\n\n" + _table(tuple(head), rows) + "\n")
    rounds = len({row["round"] for row in spark["rows"]})
    return (
        "## The shuffle\n\n`python benchmarks/shuffle_spark.py`. Whole jobs on a standalone cluster, two executors of one core, rows that do not "
        f"compress, {rounds} rounds interleaved, medians;\nthe ratios are medians of the rounds' own. CPU is the whole machine's, services "
        "included. No hardware for RDMA was there: between nodes blocks\ngo by TCP, on one node the reader maps the file.\n\n"
        + "".join(parts)
        + "Wanted: no more time than Netty at any size, and less CPU from 64 KiB up. Of a job's rounds the middle half has ratios to Netty within "
        f"{_spread(spark['rows']):.0%}\nof each other (median of the jobs): less than that is no difference.\n"
        + (_verbs(verbs) if verbs else "")
    )


def _spread(rows: list[Any]) -> float:
    """How far the quartiles of a job's time over Netty's are apart."""
    seconds = {(row["place"], row["job"], row["contender"], row["round"]): row["seconds"] for row in rows}
    ratios: dict[tuple[str, str], list[float]] = {}
    for (place, job, contender, number), found in seconds.items():
        if contender == "firesteel":
            ratios.setdefault((place, job), []).append(found / seconds[place, job, "Netty", number])
    quartiles = [statistics.quantiles(each, n=4) for each in ratios.values()]
    return statistics.median(each[2] - each[0] for each in quartiles)


def _verbs(found: Any) -> str:
    reads = [
        (size, *(f"{value:.2f}" for value in ratios.values()), _median_rate(found["rounds"][size]))
        for size, ratios in found["ratios"].items()
    ]
    names = list(next(iter(found["ratios"].values())))
    return (
        "\n`python benchmarks/shuffle_verbs.py`. Blocks through two services by verbs over Soft-RoCE in a guest of one CPU, where each packet is "
        f"work of that CPU\nand a system call costs {found['environment']['system_call_us']:.0f} us: nothing of hardware follows from it "
        "(ADR 10 says what the time goes to).\n\n"
        + _table(("blocks of", *names, "`ib_read_bw`"), reads)
        + "\nWanted: 0.9 of `ib_read_bw` at 1 MiB and 0.7 at 64 KiB.\n"
    )


def _results(name: str) -> Any:
    """Nothing where it was not measured yet."""
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _median_rate(rounds: list[Any]) -> str:
    return f"{statistics.median(each['ib_read_bw']['mib_per_second'] for each in rounds):.0f} MiB/s"


def _median(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s"


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]] | list[tuple[str, str]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


if __name__ == "__main__":
    main()
