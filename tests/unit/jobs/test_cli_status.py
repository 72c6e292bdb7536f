"""`status` with and without --start, over a ledger with one published and one failed attempt."""

from __future__ import annotations

import json

import pytest

from firesteel.jobs.cli.main import invoke
from firesteel.pipelines.publish.ledger import write_record
from firesteel.pipelines.publish.records import LedgerRecord, PublishedFile
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore
from firesteel.pipelines.result import Counts
from firesteel.pipelines.storage.open import locate
from support.specs import EXAMPLE

DAY, NAME, SINK = "2013-06-01", "flight_delay_scores", "scores"
SPEC = str(EXAMPLE / "pipeline.yaml")


@pytest.fixture
def root(tmp_path):
    root = f"file://{tmp_path}/data"
    (tmp_path / "data").mkdir()
    storage, base = locate(f"{root}/_firesteel/{NAME}")
    target = SinkInterval(StateStore(storage, base, NAME, "default"), SINK, DAY)
    file = PublishedFile("dt=2013-06-01/origin=JFK/a.parquet", 5)
    for token, run, state, files in ((1, "first", "published", (file,)), (2, "second", "failed", ())):
        counts = Counts(1234, 1234) if files else Counts()
        record = LedgerRecord(
            NAME,
            "default",
            SINK,
            DAY,
            token,
            run,
            "hash",
            state,
            "t0",
            f"t{token}",
            counts,
            (DAY,),
            files,
            location=f"{root}/scores",
        )
        write_record(target, record)
    return root


def test_status_shows_the_latest_attempt_and_the_run_that_readers_see(root, capsys):
    assert invoke(["status", SPEC, "--param", f"root={root}"]) == 0
    out = capsys.readouterr().out
    assert "second" in out
    assert out.splitlines()[-1] == f"{DAY} of {SINK}: readers see the rows of run first, published on t1."


def test_status_with_start_shows_the_published_record_of_each_interval(root, capsys):
    words = ["status", SPEC, "--param", f"root={root}", "--start", DAY, "--end", "2013-06-02"]
    assert invoke(words) == 0
    header, published, empty = capsys.readouterr().out.splitlines()
    assert " ".join(header.split()) == "interval sink published by rows partitions verdict latest attempt held by"
    assert published.split() == f"{DAY} {SINK} first 1,234 1 passed failed, t2 -".split()
    assert empty.split() == f"2013-06-02 {SINK} - - - - - -".split()
    assert invoke([*words, "--json"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert [interval["interval"] for interval in state["intervals"]] == [DAY, "2013-06-02"]
    assert state["intervals"][0]["published"]["run_id"] == "first"


@pytest.mark.parametrize("option", ["--end", "--run"])
def test_status_refuses_end_and_run_without_start(root, capsys, option):
    assert invoke(["status", SPEC, "--param", f"root={root}", option, DAY]) == 2
    assert "--end and --run need --start. Add --start INTERVAL." in capsys.readouterr().err
