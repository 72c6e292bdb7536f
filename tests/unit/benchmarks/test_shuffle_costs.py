"""The table of docs/concepts/rdma-scaling.md shows the measurements that are kept."""

from __future__ import annotations

import json

from shuffle_costs import BEGIN, END, PAGE, RESULTS, table


def test_the_table_shows_the_kept_measurements():
    text = PAGE.read_text(encoding="utf-8")
    written = text.partition(f"{BEGIN}\n")[2].partition(f"\n{END}")[0]
    assert written == table(json.loads(RESULTS.read_text(encoding="utf-8")))
