"""The table of docs/concepts/rdma-scaling.md is what its script makes of the constants that are kept."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest

from support.documents import ROOT


@pytest.fixture(scope="module")
def model():
    spec = importlib.util.spec_from_file_location("rdma_scaling", ROOT / "benchmarks" / "rdma_scaling.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_table_is_that_of_the_model(model):
    text = model.PAGE.read_text(encoding="utf-8")
    written = text.partition(f"{model.BEGIN}\n")[2].partition(f"\n{model.END}")[0]
    assert written == model.table(json.loads(model.RESULTS.read_text(encoding="utf-8")))


def test_blocks_are_maps_by_reduces_and_bytes_are_the_same_in_every_cluster(model):
    free = model.Costs(0, 0, 0)
    for nodes in model.NODES:
        found = model.row(nodes, free, free)
        assert abs(found["block"] * found["blocks"] - model.SHUFFLED) < 1
        assert found["requests"] * model.FETCH >= model.SHUFFLED
        assert found["request"] <= model.FETCH
