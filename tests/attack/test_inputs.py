"""Attacks on pinned inputs: a file with other content and the same length and modification time is noticed where the spec verifies it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import socket
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firesteel.conf.errors import FiresteelError, InputNotReady, PlanDrift, StorageError
from firesteel.jobs.run.stages import check_inputs
from firesteel.jobs.tracking.datasets import dataset_inputs
from firesteel.pipelines import Pipeline, Plan
from firesteel.pipelines.planner import listing
from firesteel.pipelines.storage.local import LocalStorage
from firesteel.pipelines.storage.open import locate
from support.specs import FixedBackend

DAY = "2024-01-01"
CONTENT = ("checksum", "sha256")
NAMES = ("a", "b", "linked")
ROWS = pa.table({"id": pa.array(range(50), pa.int64()), "x": [float(number) for number in range(50)]})


def write(root: Path, name: str, table: pa.Table = ROWS) -> Path:
    path = root / "rows" / f"dt={DAY}" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def planned(folder: Path, verify: str, uri: str = "", columns: str = "id: bigint, x: double") -> Plan:
    uri = uri or f"file://{folder}"
    key = f"    verify: {verify}\n" if verify else ""
    contract = f"    contract: {{columns: {{{columns}}}}}\n" if columns else ""
    text = f"""spec_version: 1
name: t
storage: "{uri}/_fs"
interval: {{column: dt, unit: day, begin: {DAY}}}
sources:
  rows:
    path: "{uri}/rows"
    partitions: {{dt: date}}
    select: {{dt: "${{interval.ds}}"}}
{key}{contract}steps: {{s: {{sql: "SELECT dt, id FROM rows"}}}}
sinks: {{out: {{from: s, path: "{uri}/out", partition_by: [dt]}}}}
"""
    (folder / "pipeline.yaml").write_text(text, encoding="utf-8")
    return Pipeline.load(folder / "pipeline.yaml", backend=FixedBackend()).plan(DAY)


def check(plan: Plan) -> None:
    check_inputs(plan, plan.intervals[0])


def noticed(plan: Plan) -> str:
    with pytest.raises(PlanDrift) as caught:
        check(plan)
    assert (caught.value.code, caught.value.exit_code) == ("FS6001", 6)
    return caught.value.what


def hash_of(plan: Plan) -> str:
    return plan.intervals[0].plan_hash


def put_back(path: Path, data: bytes, times: tuple[int, int], *, by_rename: bool) -> None:
    """Write content and restore the file's times."""
    target = path.with_name(f".{path.name}.new") if by_rename else path
    target.write_bytes(data)
    os.utime(target, ns=times)
    if by_rename:
        target.replace(path)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three files; one is a link to a file outside of the source."""
    root = tmp_path_factory.mktemp("inputs")
    for name in NAMES:
        write(root, name)
    link = root / "rows" / f"dt={DAY}" / "linked.parquet"
    link.rename(root / "outside.parquet")
    link.symlink_to(root / "outside.parquet")
    return root


@pytest.mark.parametrize("verify", CONTENT)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(NAMES),
    where=st.floats(0, 1, exclude_max=True),
    flip=st.integers(1, 255),
    by_rename=st.booleans(),
)
def test_any_changed_byte_of_any_pinned_file_is_noticed(rows, verify, name, where, flip, by_rename):
    plan = planned(rows, verify)
    check(plan)
    path = rows / "rows" / f"dt={DAY}" / f"{name}.parquet"
    file = path.resolve()
    data, facts = file.read_bytes(), file.stat()
    times = (facts.st_atime_ns, facts.st_mtime_ns)
    changed = bytearray(data)
    changed[int(where * len(data))] ^= flip
    put_back(file, bytes(changed), times, by_rename=by_rename)
    try:
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (len(data), times[1])
        assert f"1 with other content (dt={DAY}/{name}.parquet)" in noticed(plan)
        try:
            again = planned(rows, verify)
        except InputNotReady as error:  # the byte damaged the footer
            assert name in error.what
        else:
            assert hash_of(again) != hash_of(plan)
    finally:
        put_back(file, data, times, by_rename=False)
    check(plan)


@pytest.mark.parametrize("verify", CONTENT)
def test_a_file_that_was_touched_or_written_again_with_equal_bytes_is_the_same(rows, verify):
    plan = planned(rows, verify)
    for number, name in enumerate(NAMES):
        path = (rows / "rows" / f"dt={DAY}" / f"{name}.parquet").resolve()
        put_back(path, path.read_bytes(), (number, number), by_rename=bool(number))
    check(plan)
    again = planned(rows, verify)
    assert hash_of(again) == hash_of(plan)
    assert [item.dataset.digest for item in dataset_inputs(again, again.intervals)] == [
        item.dataset.digest for item in dataset_inputs(plan, plan.intervals)
    ]


@pytest.mark.parametrize("verify", CONTENT)
def test_a_link_to_another_file_of_equal_length_and_time_is_noticed(rows, verify):
    plan = planned(rows, verify)
    link = rows / "rows" / f"dt={DAY}" / "linked.parquet"
    target, facts = link.resolve(), link.stat()
    other = rows / "other.parquet"
    put_back(other, target.read_bytes()[::-1], (facts.st_atime_ns, facts.st_mtime_ns), by_rename=False)
    link.unlink()
    link.symlink_to(other)
    try:
        assert "linked.parquet" in noticed(plan)
    finally:
        link.unlink()
        link.symlink_to(target)


@pytest.mark.parametrize("verify", ["", *CONTENT])
def test_new_deleted_and_longer_files_are_noticed_in_each_mode(tmp_path, verify):
    path = write(tmp_path, "a")
    plan = planned(tmp_path, verify)
    other = write(tmp_path, "b")
    assert f"1 new (dt={DAY}/b.parquet)" in noticed(plan)
    path.unlink()
    assert f"1 new (dt={DAY}/b.parquet), 1 deleted (dt={DAY}/a.parquet)" in noticed(plan)
    other.rename(path)
    path.write_bytes(path.read_bytes() + b"x")
    assert f"1 changed (dt={DAY}/a.parquet)" in noticed(plan)


def test_a_file_that_is_deleted_while_it_is_compared_is_noticed(tmp_path, monkeypatch):
    path = write(tmp_path, "a")
    plan = planned(tmp_path, "checksum")
    checksum = LocalStorage.checksum

    def late(self, name, length):
        path.unlink()
        return checksum(self, name, length)

    monkeypatch.setattr(LocalStorage, "checksum", late)
    assert "a.parquet" in noticed(plan)


def test_a_plan_without_digests_does_not_pass_as_verified(tmp_path):
    write(tmp_path, "a")
    plan = planned(tmp_path, "")
    forged = replace(plan, sources=(replace(plan.sources[0], verify="checksum"),))
    assert "1 with other content" in noticed(forged)


def test_by_default_time_and_length_identify_a_file_as_before(tmp_path):
    """The hash of plans made before `verify` existed: an upgrade scores nothing again."""
    path = write(tmp_path, "a")
    plan = planned(tmp_path, "")
    assert hash_of(planned(tmp_path, "modified")) == hash_of(plan)
    facts = path.stat()
    manifest = [[f"dt={DAY}/a.parquet", facts.st_size, facts.st_mtime_ns // 1_000_000]]
    digest = hashlib.sha256(json.dumps(manifest, separators=(",", ":")).encode()).hexdigest()
    assert dict(plan.intervals[0].hash_inputs)["input rows"].endswith(f", {digest}")
    put_back(path, path.read_bytes()[::-1], (facts.st_atime_ns, facts.st_mtime_ns), by_rename=False)
    check(plan)  # the limit that the documents name
    os.utime(path, (1, 1))
    assert "1 changed" in noticed(plan)


def test_verify_is_in_no_hash_but_that_of_its_source(tmp_path):
    write(tmp_path, "a")
    plans = [planned(tmp_path, verify) for verify in ("", *CONTENT)]
    assert len({plan.code_hash for plan in plans}) == 1
    by_time, checksum, sha256 = (dict(plan.intervals[0].hash_inputs) for plan in plans)
    assert {name for name in by_time if by_time[name] != checksum[name]} == {"input rows"}
    assert checksum == sha256  # a local file's checksum is its SHA-256


def test_a_plan_file_from_before_verify_is_read(tmp_path):
    write(tmp_path, "a")
    plan = planned(tmp_path, "")
    content = json.loads(json.dumps(asdict(plan)))
    del content["sources"][0]["verify"], content["intervals"][0]["inputs"][0]["files"][0]["digest"]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    assert Plan.from_json(json.dumps({**content, "digest": digest})) == plan


@pytest.mark.parametrize("columns", ["id: bigint, x: double", ""])
@pytest.mark.parametrize("verify", CONTENT)
def test_a_process_does_not_take_an_earlier_footer_for_that_of_a_changed_file(tmp_path, verify, columns):
    path = write(tmp_path, "a")
    facts = path.stat()
    planned(tmp_path, verify, columns=columns)
    other = io.BytesIO()
    pq.write_table(ROWS.rename_columns(["no", "x"]), other)
    assert len(other.getvalue()) == facts.st_size
    put_back(path, other.getvalue(), (facts.st_atime_ns, facts.st_mtime_ns), by_rename=False)
    with pytest.raises(FiresteelError, match="`?id`?"):
        planned(tmp_path, verify, columns=columns)


class NoChecksums(LocalStorage):
    """A storage without checksums, as HDFS is for some files."""

    def checksum(self, path: str, length: int) -> str:
        return ""


def test_a_storage_without_checksums_is_refused_at_plan_and_at_run(tmp_path, monkeypatch):
    write(tmp_path, "a")
    plan = planned(tmp_path, "checksum")
    pinned = planned(tmp_path, "sha256")
    monkeypatch.setattr(LocalStorage, "checksum", NoChecksums.checksum)
    for act in (lambda: planned(tmp_path, "checksum"), lambda: check(plan)):
        with pytest.raises(InputNotReady, match="FS4006 rows: .*a.parquet has no checksum") as caught:
            act()
        assert "verify: sha256" in caught.value.hint
    check(pinned)
    assert hash_of(planned(tmp_path, "sha256")) == hash_of(pinned)


@pytest.mark.parametrize("verify", CONTENT)
def test_a_pipe_or_a_link_to_nothing_does_not_hang(tmp_path, verify):
    folder = write(tmp_path, "a").parent
    os.mkfifo(folder / "pipe.parquet")
    with pytest.raises(InputNotReady, match=r"FS4003.*pipe\.parquet"):
        planned(tmp_path, verify)
    (folder / "pipe.parquet").unlink()
    (folder / "nothing.parquet").symlink_to(folder / "away.parquet")
    with pytest.raises(InputNotReady, match=r"FS4003.*nothing\.parquet"):
        planned(tmp_path, verify)


def after_listing(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Act once, when the files of a source have been listed."""
    listed, done = LocalStorage.scan, []

    def scan(self, paths):
        files = listed(self, paths)
        if not done:
            done.append(act())
        return files

    monkeypatch.setattr(LocalStorage, "scan", scan)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nothing", "another file"])
@pytest.mark.parametrize("verify", CONTENT)
def test_an_input_that_is_replaced_after_it_was_listed_has_changed(tmp_path, verify, kind, monkeypatch):
    path = write(tmp_path, "a")
    plan = planned(tmp_path, verify)

    def replace_it() -> None:
        data = path.read_bytes()
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "folder":
            path.mkdir()
        elif kind == "another file":
            path.write_bytes(data[::-1])

    after_listing(monkeypatch, replace_it)
    assert f"1 with other content (dt={DAY}/a.parquet)" in noticed(plan)


def test_the_planned_length_limits_what_is_read(tmp_path, monkeypatch):
    path = write(tmp_path, "a")
    plan = planned(tmp_path, "checksum")

    def grow() -> None:
        with path.open("ab") as file:
            file.truncate(60 << 30)

    after_listing(monkeypatch, grow)
    assert f"1 with other content (dt={DAY}/a.parquet)" in noticed(plan)


@given(st.binary(max_size=40), st.integers(0, 40))
def test_a_checksum_of_limited_length_is_that_of_no_other_file_of_this_length(tmp_path_factory, data, length):
    path = tmp_path_factory.getbasetemp() / "limited"
    path.write_bytes(data)
    digest = f"SHA-256:{hashlib.sha256(data[: length + 1]).hexdigest()}"
    assert LocalStorage().checksum(str(path), length) == digest


@pytest.mark.parametrize("verify", CONTENT)
def test_a_file_that_is_replaced_between_its_digest_and_its_footer_leaves_no_footer_for_the_digest(
    tmp_path, verify, monkeypatch
):
    path = write(tmp_path, "a")
    data = path.read_bytes()
    other = io.BytesIO()
    pq.write_table(ROWS.rename_columns(["no", "x"]), other)
    assert len(other.getvalue()) == len(data)
    digest = listing.content_digest

    def replaced(*args):
        result = digest(*args)
        path.write_bytes(other.getvalue())
        return result

    with monkeypatch.context() as patched:
        patched.setattr(listing, "content_digest", replaced)
        with pytest.raises(FiresteelError, match="`?id`?"):
            planned(tmp_path, verify)
    path.write_bytes(data)
    planned(tmp_path, verify)


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "folder", "link to a device"])
def test_the_local_storage_opens_regular_files_only(tmp_path, kind):
    path = tmp_path / "special"
    with contextlib.ExitStack() as stack:
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            stack.enter_context(socket.socket(socket.AF_UNIX)).bind(str(path))
        elif kind == "folder":
            path.mkdir()
        elif kind == "link to a device":
            path.symlink_to("/dev/zero")
        for read in (LocalStorage().read, lambda path: LocalStorage().checksum(path, 9)):
            with pytest.raises(StorageError, match="FS8002"):
                read("/dev/zero" if kind == "device" else str(path))


def test_a_digest_covers_bytes_beyond_the_first_chunk(tmp_path, monkeypatch):
    monkeypatch.setattr("firesteel.pipelines.plan.digests._CHUNK", 100)
    path = write(tmp_path, "a")
    (file,) = planned(tmp_path, "sha256").intervals[0].inputs[0].files
    assert file.digest == f"SHA-256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def set_times(storage: Any, path: str, modified_ms: int) -> None:
    storage._namenodes.call("set_times", path, {"modificationtime": str(modified_ms)})


def test_a_changed_byte_of_a_file_on_hdfs_is_noticed(tmp_path, hdfs_env):
    uri = f"{hdfs_env.uri}/attack-inputs"
    storage, base = locate(uri)
    data = io.BytesIO()
    pq.write_table(ROWS, data)
    path, content = f"{base}/rows/dt={DAY}/a.parquet", data.getvalue()
    written = storage.create(path, content)
    plans = {verify: planned(tmp_path, verify, uri) for verify in ("modified", *CONTENT)}
    digests = {verify: plan.intervals[0].inputs[0].files[0].digest for verify, plan in plans.items()}
    assert digests["checksum"].startswith("MD5-of-")
    assert digests["sha256"] == f"SHA-256:{hashlib.sha256(content).hexdigest()}"

    storage.replace(path, content)  # equal bytes, another time
    assert storage.status(path).modified_ms != written.modified_ms
    for verify in CONTENT:
        check(plans[verify])
        assert hash_of(planned(tmp_path, verify, uri)) == hash_of(plans[verify])

    for offset in (0, len(content) // 2, len(content) - 1):
        changed = bytearray(content)
        changed[offset] ^= 1
        storage.replace(path, bytes(changed))
        set_times(storage, path, written.modified_ms)
        assert storage.status(path) == written
        check(plans["modified"])  # the limit that the documents name
        for verify in CONTENT:
            assert f"1 with other content (dt={DAY}/a.parquet)" in noticed(plans[verify])
    storage.delete(base)
