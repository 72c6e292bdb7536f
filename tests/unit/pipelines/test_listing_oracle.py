"""What planning selects of generated trees is what pyarrow reads of the selected range, or an error."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from firesteel.conf.errors import FiresteelError
from firesteel.udfs.direct.scan import partition_values
from firesteel.udfs.direct.spec import FileSystemSpec, ScanSpec
from support.trees import ARROW, HIDDEN, Generated, generate

TREES = 400


def rows_planned(tree: Generated, files) -> Counter:
    """(id, values) of the rows in the planned files, by the direct scan's own reading of their paths."""
    partitions = tuple((name, ARROW[kind]) for name, kind in tree.partitions.items())
    spec = ScanSpec(FileSystemSpec("file"), str(tree.root), pa.schema([]), partitions)
    return Counter(
        (number, tuple(value.as_py() for value in partition_values(file.path, spec).values()))
        for file in files
        for number in pq.ParquetFile(tree.root / file.path).read().column("id").to_pylist()
    )


def rows_of_pyarrow(tree: Generated) -> Counter | None:
    """(id, values) of the rows that pyarrow finds in the selected range; None where it cannot read the tree."""
    schema = pa.schema([(name, ARROW[kind]) for name, kind in tree.partitions.items()])
    prefixes = [*HIDDEN, "part-0.parquet._COPYING_", "part-0.parquet.tmp"]
    try:
        data = ds.dataset(
            tree.root, format="parquet", partitioning=ds.partitioning(schema, flavor="hive"), ignore_prefixes=prefixes
        )
        if "id" not in data.schema.names:
            return Counter()
        table = data.to_table(columns=["id", *tree.partitions])
    except (pa.ArrowInvalid, pa.ArrowKeyError):
        return None
    wanted = tree.wanted()
    return Counter(
        (row["id"], tuple(row[name] for name in tree.partitions))
        for row in table.to_pylist()
        if all(row[column] in values for column, values in wanted.items())
    )


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> list[Generated]:
    folder = tmp_path_factory.mktemp("trees")
    return [generate(Path(folder / str(seed)), seed) for seed in range(TREES)]


def test_planning_selects_the_rows_that_pyarrow_reads_or_refuses(trees):
    compared = 0
    for seed, tree in enumerate(trees):
        planned = tree.planned()
        if planned is None or isinstance(planned, FiresteelError):
            continue
        expected = rows_of_pyarrow(tree)
        if expected is not None:
            assert rows_planned(tree, planned.files) == expected, (seed, tree)
            compared += len(expected) > 0
    assert compared > TREES // 5


def test_a_tree_without_faults_is_refused_for_missing_directories_and_unfinished_files_only(trees):
    for seed, tree in enumerate(trees):
        planned = tree.planned()
        if not tree.faults and isinstance(planned, FiresteelError):
            unfinished = "is not finished, and the directory has no other file" in planned.what
            assert planned.code == ("FS4001" if unfinished else "FS4002"), (seed, planned)


def test_each_fault_in_the_selected_range_is_refused_with_its_path(trees):
    found = Counter()
    for seed, tree in enumerate(trees):
        planned = tree.planned()
        if isinstance(planned, FiresteelError) and planned.code == "FS4005":
            assert tree.faults, (seed, planned)
            assert str(tree.root) in planned.what
            found[tree.faults[0]] += 1
    assert set(found) == {"key", "case", "value", "twice", "above", "level", "escape", "empty", "plain"}
