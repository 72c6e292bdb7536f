"""Write docs/reference/performance.md from the results in benchmarks/results.

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
        "`python benchmarks/page.py` writes this page. Each section names the command that measures it. `benchmarks/results/` has the raw\n"
        f"numbers and the environment. The machine has {environment['cores']} cores and also ran other work "
        f"(load {environment['load']:.1f} at the end of the first run),\nso ratios are more reliable than seconds.\n"
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


def _compiling(results: Any) -> str:
    targets = {"200": "2 s"}
    steps = [(f"{count} steps", _median(values), targets.get(count, "")) for count, values in results["steps"].items()]
    commands = [
        ("`firesteel --help`", _median(results["help"]), "0.3 s"),
        ("`firesteel validate` of the flights example", _median(results["validate"]), "0.5 s"),
    ]
    plans = [("one day (274 of the 100,000 partitions)", _median(results["one day of all partitions"]), "", "")]
    for size in results["partitions"]:
        peak = f"{size['peak_mib']:.0f} MiB"
        plans.append((f"{size['partitions']:,} partitions", f"{size['seconds']:.2f} s", f"{size['cpu_s']:.2f} s", peak))
    return (
        "## Compiling\n\n`python benchmarks/compile.py`. Cold processes, medians.\n\n"
        + _table(("command or spec", "measured", "target"), [*commands, *steps])
        + "\nPlans over partitions of a real NameNode, with one file per partition, listed by batched RPC (ADR 4). "
        "Target: 100,000 partitions in 5 s\nand 300 MiB.\n\n"
        + _table(("plan of", "time", "CPU time of the planner, with imports", "peak memory"), plans)
    )


def _scoring(results: Any) -> str:
    warm, against = [], []
    for result in results["warm"]:
        seconds = {name: statistics.median(values) for name, values in result["seconds"].items()}
        for backend in ("native", "compiled"):
            if f"limit, {backend}" in seconds:
                limit, ours, udf = seconds[f"limit, {backend}"], seconds[f"firesteel, {backend}"], seconds["spark_udf"]
                name = f"{result['model']}, {backend}, {result['rows']:,} rows"
                warm.append((name, f"{limit:.2f} s", f"{ours:.2f} s", f"{udf:.2f} s", f"{limit / ours:.2f}"))
                against.append((name, f"{udf / ours:.1f}"))
    ratios = dict(against)
    joined = {name: statistics.median(values) for name, values in results["join"]["seconds"].items()}
    engines = list(results["whole"][0]["seconds"])
    whole = [
        (f"{result['model']}, {result['rows']:,} rows", *(f"{result['seconds'][name][0]:.1f} s" for name in engines))
        for result in results["whole"]
    ]
    memory = [
        (f"{result['rows']:,}", f"{result['own_mib']:.0f} MiB", f"{result['peak_mib']:.0f} MiB")
        for result in results["memory"]
    ]
    repeats = len(results["join"]["seconds"]["firesteel"])
    return (
        f"## Scoring\n\n`python benchmarks/scoring.py`. Parquet in, Parquet out, 30 `float32` features, `local[2]`. One warm session, "
        f"interleaved rounds, medians\nof {repeats}. The time is from planning to published files, with staging, audit, journal and MLflow. "
        "The limit is two processes that\nread, score and write with pyarrow and the same inference backend, without an engine (ADR 5).\n\n"
        + _table(
            ("model", "limit", "firesteel", "`spark_udf`", "limit / firesteel", "`spark_udf` / firesteel"),
            [(*row, ratios[row[0]]) for row in warm],
        )
        + "\nTargets: 0.9 of the limit; against `spark_udf` 1.2 (LightGBM native), 6 (compiled) and 8 (logistic regression). "
        "Most of the gap to the\nlimit is a fixed time per run: about 0.3 s for plan, records and report, 0.1 s for Spark's scheduling, "
        "and the audit, which reads the\nscores a second time.\n\n"
        f"With a join before the score ({results['join']['rows']:,} rows, LightGBM, compiled backend on both sides): hand-written `mapInArrow` "
        f"{joined['hand-written']:.2f} s, firesteel {joined['firesteel']:.2f} s.\nThe ratio is {joined['hand-written'] / joined['firesteel']:.2f}, "
        "the target 0.8.\n\n"
        "Whole processes from a cold start, one run each, with other work on the machine. The other engines score files with the model's "
        "own library:\n\n"
        + _table(("model", *(f"`{name}`" for name in engines)), whole)
        + "\nOn this machine a run needs about 15 s before its first row: 5 s for JVM and session, 3 s for Python workers with MLflow and the model, "
        "code generation,\nand 7 s to compile a LightGBM model once per session. A loop over files on one machine has none of these costs and is "
        "faster for light models. Use\nfiresteel when data and cores are on several machines.\n\n"
        "Memory of the largest Python worker with logistic regression. The second figure includes the pages of mapped input files, at most one "
        "split of 128 MiB:\n\n" + _table(("rows", "own memory", "with mapped files"), memory)
    )


def _gates(results: Any) -> str:
    rows = [
        (
            f"{result['rows']:,}",
            *map(_median, result["seconds"].values()),
            result["ratios"]["great expectations / compiled"],
        )
        for result in results["sizes"]
    ]
    repeats = len(results["sizes"][0]["seconds"]["scan"])
    return (
        f"## Gates\n\n`python benchmarks/gates.py`. {results['expectations']} expectations on Parquet in one warm session, "
        f"`local[2]`, medians of {repeats}. Times exclude the\n"
        "import of Great Expectations (6 to 12 s), which a fully compiled gate does not need.\n\n"
        + _table(
            ("rows", "count of every column", "compiled to one pass", "Great Expectations on Spark", "ratio"), rows
        )
        + "\nTarget: a ratio of 5. Great Expectations 1.24 also bundles these metrics into few jobs, so on large frames both evaluate the "
        "same conditions\nover the same rows. One pass is an advantage where job overhead dominates, as for a day of flights. Great "
        "Expectations takes six times as long\nas the scan, so a ratio of 5 leaves 20 % over the scan for ten conditions. The regular expression "
        "alone, which Java evaluates in both cases, takes half\nof the compiled time (3.1 of 5.4 s over 5 million rows, on a busy machine).\n"
    )


def _transaction(results: Any) -> str:
    rounds = results["rounds"]
    names = list(rounds[0]["stages"])
    rows = [
        ("plain write by Spark", _median([each["bare"] for each in rounds])),
        *((f"stage `{name}` of the run", _median([each["stages"][name] for each in rounds])) for name in names),
        ("whole call, with MLflow and the report", _median([each["run"] for each in rounds])),
    ]
    ratios = results["ratios"]
    return (
        f"## The transaction\n\n`python benchmarks/transaction.py`. {results['rows']:,} rows on a real HDFS in one warm session, "
        f"the same SELECT and layout, interleaved rounds,\nmedians of {len(rounds)}.\n\n"
        + _table(("step", "time"), rows)
        + f"\nThe stages together take {ratios['transaction / bare']} times as long as the plain write, the whole call {ratios['run / bare']} "
        "times. Target: 1.1 at ten million rows.\n"
        "About 0.5 s is fixed. A publish waits 0.43 s once, because HDFS's client waits before it asks again whether the DataNode has "
        "reported a\nblock (dfs.client.block.write.locateFollowingBlock.initial.delay.ms, 400). Without this wait it takes 0.15 s. The "
        "rest is probably Spark's\ncount of the written rows.\n"
    )


def _elasticity(results: Any) -> str:
    runs_of = [result["runs"] for result in results["rounds"]]
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
    lost = [result["runs"] for result in results["loss"]]
    adds = [run["killed"]["makespan_s"] / run["quiet"]["makespan_s"] - 1 for run in lost]
    scoring = [run["killed"]["scoring_s"] / run["quiet"]["scoring_s"] - 1 for run in lost]
    starts = [result["seconds"] for result in results["overhead"]]
    more = statistics.median(start["firesteel run"] - start["spark-submit"] for start in starts)
    head = (
        "policy",
        "makespan",
        "executor-seconds",
        "ratio to the ideal",
        "ratio to the fixed size",
        "backlog to a new busy executor",
    )
    return (
        "## Elasticity\n\n`python benchmarks/elasticity.py`. Nine days of one file each and a burst of 64 files on a real standalone cluster "
        f"with four executor slots\nof one core. The model sleeps, so two cores suffice for four executors. {len(rounds)} rounds, medians. The "
        "ideal has one executor for each running task, and at least\none executor.\n\n"
        + _table(head, rows)
        + "\nTargets: 1.15 of the ideal, 0.75 of the fixed size, 5 s from backlog to a new busy executor. "
        f"This time is the start\nof JVMs and Python: {slow:.1f} s on a machine about half as fast ({len(before)} earlier rounds).\n\n"
        f"An executor that is killed after 90 % of an interval's tasks adds {statistics.median(adds):.0%} to the makespan and "
        f"{statistics.median(scoring):.0%} to the scoring stage (medians of {len(lost)};\ntarget: at most 15 %). From the command to the first "
        f"task, `firesteel run` takes {_median([start['firesteel run'] for start in starts])}, a hand-written job with `spark-submit` "
        f"{_median([start['spark-submit'] for start in starts])} (medians of {len(starts)});\n"
        f"the median of the differences is {more:.1f} s (target: at most 2 s).\n\n"
        "[Elasticity](../concepts/elasticity.md) shows a simulation of other cluster sizes from recorded tasks.\n"
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
        "## The shuffle\n\n`python benchmarks/shuffle_spark.py`. Whole jobs on a standalone cluster with two executors of one core and rows that do "
        f"not compress; {rounds} interleaved rounds,\nmedians. Each ratio is the median of the ratios of the rounds. CPU is the CPU time of the "
        "whole machine with the services. The machine has no RDMA\nhardware: blocks between nodes use TCP; on one node the reader maps the file.\n\n"
        + "".join(parts)
        + "Targets: at most the time of Netty for each size, and less CPU from 64 KiB. The interquartile range of a job's ratios to Netty is "
        f"{_spread(spark['rows']):.0%}\n(median of the jobs), so smaller differences are noise.\n"
        + (_verbs(verbs) if verbs else "")
    )


def _spread(rows: list[Any]) -> float:
    """Return the interquartile range of a job's time over Netty's, as the median of all jobs."""
    seconds = {(row["place"], row["job"], row["contender"], row["round"]): row["seconds"] for row in rows}
    ratios: dict[tuple[str, str], list[float]] = {}
    for (place, job, contender, number), duration in seconds.items():
        if contender == "firesteel":
            ratios.setdefault((place, job), []).append(duration / seconds[place, job, "Netty", number])
    quartiles = [statistics.quantiles(ratio, n=4) for ratio in ratios.values()]
    return statistics.median(quartile[2] - quartile[0] for quartile in quartiles)


def _verbs(results: Any) -> str:
    reads = [
        (size, *(f"{value:.2f}" for value in ratios.values()), _median_rate(results["rounds"][size]))
        for size, ratios in results["ratios"].items()
    ]
    names = list(next(iter(results["ratios"].values())))
    return (
        "\n`python benchmarks/shuffle_verbs.py`. Blocks between two services, by verbs over Soft-RoCE, in a guest with one CPU. The CPU "
        f"processes each packet, and\na system call costs {results['environment']['system_call_us']:.0f} us, so the results do not predict hardware "
        "(ADR 10 analyses the time).\n\n"
        + _table(("block size", *names, "`ib_read_bw`"), reads)
        + "\nTargets: 0.9 of `ib_read_bw` at 1 MiB and 0.7 at 64 KiB.\n"
    )


def _results(name: str) -> Any:
    """Return the results of a benchmark; an empty mapping if there are none yet."""
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
