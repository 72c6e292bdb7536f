"""What the service counts, and its text for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

COUNTERS = {
    "registered_outputs": "Map outputs taken over.",
    "registered_bytes": "Bytes of map outputs taken over.",
    "adopted_outputs": "Map outputs adopted after a restart.",
    "dropped_outputs": "Recorded map outputs whose file was gone or changed at a restart.",
    "local_blocks": "Ranges handed out as files of this node.",
    "local_bytes": "Bytes handed out as files of this node.",
    "remote_blocks": "Ranges fetched from peers.",
    "remote_bytes": "Bytes fetched from peers.",
    "spooled_bytes": "Fetched bytes that went into files because the slab had no room.",
    "fences": "Extents that were given back while a peer could still write into them.",
    "slabs_refused": "Applications without a slab, because of a limit or full shared memory.",
    "connections_refused": "Connections of executors over the limit or of another user.",
    "holders_died": "Processes that died while they held extents.",
    "applications_expired": "Applications that ended because nothing was heard of them.",
}


class Metrics:
    """Counters by name, faults by reason, and, by reason, reads that went by TCP where verbs were wanted."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        self.faults: Counter[str] = Counter()
        self.falls: Counter[str] = Counter()

    def add(self, name: str, amount: int = 1) -> None:
        """Count; `name` is one of `COUNTERS`."""
        if name not in COUNTERS:
            raise KeyError(name)
        self.counts[name] += amount


def prometheus(metrics: Metrics, gauges: Mapping[str, float]) -> str:
    """The text exposition format, version 0.0.4."""
    return "".join(_lines(metrics, gauges))


def _lines(metrics: Metrics, gauges: Mapping[str, float]) -> Iterable[str]:
    for name, doc in COUNTERS.items():
        full = f"firesteel_shuffle_{name}_total"
        yield f"# HELP {full} {doc}\n# TYPE {full} counter\n{full} {metrics.counts[name]}\n"
    for full, doc, counts in (
        ("firesteel_shuffle_faults_total", "Requests and blocks that failed, by reason.", metrics.faults),
        ("firesteel_shuffle_verbs_falls_total", "Reads that went by TCP instead of verbs, by reason.", metrics.falls),
    ):
        if not counts:
            continue
        yield f"# HELP {full} {doc}\n# TYPE {full} counter\n"
        for reason, count in sorted(counts.items()):
            yield f'{full}{{reason="{reason}"}} {count}\n'
    for name, value in gauges.items():
        full = f"firesteel_shuffle_{name}"
        yield f"# TYPE {full} gauge\n{full} {value:g}\n"
