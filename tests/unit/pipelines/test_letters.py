"""Dead letters that are too old go, and nothing else."""

from __future__ import annotations

import os

from firesteel.pipelines.publish.dead_letters import prune_dead_letters
from firesteel.pipelines.publish.state_store import StateStore
from firesteel.pipelines.storage.open import locate

DAY_S = 86_400.0
NOW_S = 1_700_000_000.0


def test_letters_go_by_their_age(tmp_path):
    storage, base = locate(f"file://{tmp_path}")
    store = StateStore(storage, base, "p", "default")
    ages = {"scored/2013-06-01/a.jsonl": 31.0, "scored/2013-06-01/b.jsonl": 29.0, "other/2013-06-02/c.jsonl": 365.0}
    for name, days in ages.items():
        path = tmp_path / "dead_letter" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")
        os.utime(path, (NOW_S - days * DAY_S,) * 2)
    aside = tmp_path / "ledger" / "old.json"
    aside.parent.mkdir()
    aside.write_text("{}")
    os.utime(aside, (0, 0))
    assert prune_dead_letters(store, 30 * DAY_S, now_s=NOW_S) == 2
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"dead_letter/scored/2013-06-01/b.jsonl", "ledger/old.json"}
    assert prune_dead_letters(store, 30 * DAY_S, now_s=NOW_S) == 0


def test_without_letters_there_is_nothing_to_do(tmp_path):
    storage, base = locate(f"file://{tmp_path}")
    assert prune_dead_letters(StateStore(storage, base, "p", "default"), 0.0, now_s=NOW_S) == 0
