"""The counters of the service, and their text for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

COUNTERS = {
    "registered_outputs": "Registered map outputs.",
    "registered_bytes": "Bytes of registered map outputs.",
    "recovered_outputs": "Map outputs recovered after a restart.",
    "dropped_outputs": "Map outputs dropped at a restart because their file was missing or changed.",
    "local_blocks": "Ranges served from files of this node.",
    "local_bytes": "Bytes served from files of this node.",
    "remote_blocks": "Ranges fetched from peers.",
    "remote_bytes": "Bytes fetched from peers.",
    "spooled_bytes": "Fetched bytes that went into files because the slab was full.",
    "fences": "Extents that were released while a peer could still write into them.",
    "slabs_refused": "Applications without a slab because of a limit or full shared memory.",
    "connections_refused": "Executor connections refused because of the limit or the user.",
    "clients_died": "Client processes that ended while they held extents.",
    "applications_expired": "Applications that ended because their lease expired.",
}


class Metrics:
    """Counters by name, faults by reason, and reads that fell back from verbs to TCP by reason."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        self.faults: Counter[str] = Counter()
        self.fallbacks: Counter[str] = Counter()

    def add(self, name: str, amount: int = 1) -> None:
        """Increase a counter of `COUNTERS`."""
        if name not in COUNTERS:
            raise KeyError(name)
        self.counts[name] += amount


def prometheus(metrics: Metrics, gauges: Mapping[str, float]) -> str:
    """Return the metrics in the text exposition format, version 0.0.4."""
    return "".join(_lines(metrics, gauges))


def _lines(metrics: Metrics, gauges: Mapping[str, float]) -> Iterable[str]:
    for name, doc in COUNTERS.items():
        full = f"firesteel_shuffle_{name}_total"
        yield f"# HELP {full} {doc}\n# TYPE {full} counter\n{full} {metrics.counts[name]}\n"
    for full, doc, counts in (
        ("firesteel_shuffle_faults_total", "Requests and blocks that failed, by reason.", metrics.faults),
        (
            "firesteel_shuffle_verbs_fallbacks_total",
            "Reads that used TCP instead of verbs, by reason.",
            metrics.fallbacks,
        ),
    ):
        if not counts:
            continue
        yield f"# HELP {full} {doc}\n# TYPE {full} counter\n"
        for reason, count in sorted(counts.items()):
            yield f'{full}{{reason="{reason}"}} {count}\n'
    for name, value in gauges.items():
        full = f"firesteel_shuffle_{name}"
        yield f"# TYPE {full} gauge\n{full} {value:g}\n"
