"""One suite over every Storage: what the publish transaction relies on, word for word."""

from __future__ import annotations

import multiprocessing
import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from firesteel.conf.errors import StorageError
from firesteel.pipelines.storage.base import FileStatus, Storage
from firesteel.pipelines.storage.open import close_all, locate
from firesteel.pipelines.storage.webhdfs import WebHdfsStorage

# Names that Spark makes (percent escapes of partition values) and that people make.
NAMES = ("dt=2013-06-01", "origin=a%20b", "100%", "a b", "a+b", "a;b&c=d", "é", "~x", "q?x#y")


@pytest.fixture(params=["local", pytest.param("hdfs", marks=pytest.mark.integration)])
def root_uri(request, tmp_path, monkeypatch):
    if request.param == "local":
        yield f"file://{tmp_path}"
        return
    hdfs = request.getfixturevalue("hdfs")
    monkeypatch.setenv("HADOOP_CONF_DIR", str(hdfs.conf_dir))
    uri = f"{hdfs.uri}/contract/{secrets.token_hex(6)}"
    yield uri
    storage, path = locate(uri)
    storage.delete(path)
    close_all()


@pytest.fixture
def there(root_uri) -> tuple[Storage, str]:
    return locate(root_uri)


def code_of(call, *args) -> str:
    with pytest.raises(StorageError) as caught:
        call(*args)
    return caught.value.code


def test_base_uri_and_path_make_the_uri_again(root_uri, there):
    storage, root = there
    assert f"{storage.base_uri}{root}" == root_uri


def test_create_gives_the_bytes_back_and_makes_parents(there):
    storage, root = there
    status = storage.create(f"{root}/a/b/c.json", b"\x00\xff" * 500)
    assert (status.path, status.is_dir, status.length) == (f"{root}/a/b/c.json", False, 1000)
    assert storage.read(f"{root}/a/b/c.json") == b"\x00\xff" * 500
    assert storage.status(f"{root}/a/b/c.json") == status


def test_a_checksum_tells_contents_apart_and_moves_with_the_file(there):
    storage, root = there
    storage.create(f"{root}/a/one", b"x" * 100_000)
    storage.create(f"{root}/a/two", b"x" * 99_999 + b"y")
    storage.create(f"{root}/a/none", b"")
    one, two = storage.checksum(f"{root}/a/one", 100_000), storage.checksum(f"{root}/a/two", 100_000)
    assert one != two
    assert all(":" in checksum for checksum in (one, two, storage.checksum(f"{root}/a/none", 0)))
    storage.rename(f"{root}/a", f"{root}/b")
    assert (storage.checksum(f"{root}/b/one", 100_000), storage.checksum(f"{root}/b/two", 100_000)) == (one, two)
    assert code_of(storage.checksum, f"{root}/a/one", 100_000) == "FS8003"


def test_create_of_an_empty_file(there):
    storage, root = there
    assert storage.create(f"{root}/empty", b"").length == 0
    assert storage.read(f"{root}/empty") == b""


@pytest.fixture(params=["batched", "hdfs-native", "WebHDFS"])
def way(request, root_uri, there, monkeypatch) -> tuple[Storage, str]:
    """Each of the ways in which an HDFS is scanned by itself; of the local file system there is one."""
    storage, root = there
    if isinstance(storage, WebHdfsStorage):
        batched, native = storage._listers
        chosen = {"batched": [batched], "hdfs-native": [native], "WebHDFS": []}[request.param]
        monkeypatch.setattr(storage, "_listers", chosen)
        if chosen:  # it must not be WebHDFS that finds the files
            monkeypatch.setattr(storage, "walk", None)
    elif request.param != "batched":
        pytest.skip("local files are listed in one way")
    return storage, root


def walked(storage: Storage, *paths: str) -> tuple[FileStatus, ...]:
    """What is below `paths`, by `list` alone."""
    found: list[FileStatus] = []
    for path in paths:
        children = storage.list(path) if storage.status(path) else []
        found += [child for child in children if not child.is_dir]
        found += [file for child in children if child.is_dir for file in walked(storage, child.path)]
    return tuple(sorted(found, key=lambda status: status.path))


def test_a_scan_finds_what_a_walk_finds(way):
    storage, root = way
    for number, name in enumerate(NAMES):
        storage.create(f"{root}/{name}/deep/part-{number}", b"x" * number)
    storage.create(f"{root}/top", b"x")
    storage.mkdirs(f"{root}/empty")
    found = storage.scan([root])
    assert found == walked(storage, root)
    assert len(found) == len(NAMES) + 1


def test_a_peek_reads_what_a_read_reads(way):
    storage, root = way
    storage.create(f"{root}/d ir/[f] 1%.parquet", bytes(range(200)))
    for offset, length in ((0, 200), (150, 50), (10, 1)):
        path = f"{root}/d ir/[f] 1%.parquet"
        assert storage.peek(path, offset, length) == storage.read(path, offset, length)
    with pytest.raises(StorageError, match="FS8003"):
        storage.peek(f"{root}/nowhere", 0, 1)


def test_a_scan_of_several_folders_finds_the_files_of_all(way):
    storage, root = way
    for name in ("b/2", "a/1/x", "a-b/y", "not/asked"):
        storage.create(f"{root}/{name}", name.encode())
    found = storage.scan([f"{root}/b", f"{root}/a-b", f"{root}/none", f"{root}/a"])
    assert [each.path for each in found] == [f"{root}/a-b/y", f"{root}/a/1/x", f"{root}/b/2"]


def test_a_scan_of_nothing_of_what_is_missing_and_of_a_file_is_empty(way):
    storage, root = way
    storage.create(f"{root}/f", b"x")
    assert storage.scan([]) == ()
    assert storage.scan([f"{root}/nowhere", f"{root}/f"]) == ()


def test_a_scan_of_more_than_one_answer_holds(way, tmp_path):
    """dfs.ls.limit is 1,000 names an answer; dfs.batched.ls.limit is 100 directories a call."""
    storage, root = way
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(storage.mkdirs, [f"{root}/d/k={number:03d}" for number in range(250)]))
        list(pool.map(lambda number: storage.replace(f"{root}/d/k=120/{number:04d}", b""), range(1100)))
    storage.create(f"{root}/d/k=007/x", b"1")
    storage.create(f"{root}/d/k=249/x", b"12")
    found = storage.scan([f"{root}/d"])
    assert [each.length for each in found] == [1, *[0] * 1100, 2]
    assert found == walked(storage, f"{root}/d/k=007", f"{root}/d/k=120", f"{root}/d/k=249")


def test_create_refuses_what_is_there_and_leaves_it_alone(there):
    storage, root = there
    storage.create(f"{root}/f", b"first")
    assert code_of(storage.create, f"{root}/f", b"second") == "FS8004"
    assert storage.read(f"{root}/f") == b"first"
    storage.mkdirs(f"{root}/d")
    assert code_of(storage.create, f"{root}/d", b"second") == "FS8004"
    assert [child.name for child in storage.list(root)] == ["d", "f"], "a hidden file was left behind"


def _create(uri: str, barrier, results, number: int) -> None:
    storage, path = locate(uri)
    barrier.wait(60)
    try:
        storage.create(path, f"writer {number}".encode())
    except StorageError as error:
        results.put((number, error.code))
    else:
        results.put((number, "won"))


def test_of_many_processes_that_create_one_file_one_wins(root_uri, there):
    storage, root = there
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(4), context.Queue()
    writers = [
        context.Process(target=_create, args=(f"{root_uri}/race", barrier, results, number)) for number in range(4)
    ]
    for writer in writers:
        writer.start()
    outcome = dict(results.get(timeout=120) for _ in writers)
    for writer in writers:
        writer.join(60)
    assert sorted(outcome.values()) == ["FS8004", "FS8004", "FS8004", "won"]
    winner = next(number for number, what in outcome.items() if what == "won")
    assert storage.read(f"{root}/race") == f"writer {winner}".encode()
    assert [child.name for child in storage.list(root)] == ["race"]


def test_replace_writes_over_and_makes_parents(there):
    storage, root = there
    first = storage.replace(f"{root}/x/beat", b"long content")
    second = storage.replace(f"{root}/x/beat", b"short")
    assert storage.read(f"{root}/x/beat") == b"short"
    assert second.length == 5
    assert second.modified_ms >= first.modified_ms


def test_read_of_a_range(there):
    storage, root = there
    storage.create(f"{root}/f", b"0123456789")
    assert storage.read(f"{root}/f", 3) == b"3456789"
    assert storage.read(f"{root}/f", 3, 4) == b"3456"
    assert storage.read(f"{root}/f", 8, 100) == b"89"
    assert storage.read(f"{root}/f", 10, 5) == b""
    assert storage.read(f"{root}/f", 99) == b""
    assert storage.read(f"{root}/f", 2, 0) == b""


def test_read_across_the_size_of_any_buffer(there):
    storage, root = there
    data = bytes(range(256)) * 8192 * 2
    storage.create(f"{root}/big", data)
    assert storage.read(f"{root}/big") == data
    assert storage.read(f"{root}/big", 1_000_001, 777) == data[1_000_001:1_000_778]


def test_what_is_missing(there):
    storage, root = there
    assert storage.status(f"{root}/no") is None
    assert code_of(storage.list, f"{root}/no") == "FS8003"
    assert code_of(storage.read, f"{root}/no") == "FS8003"
    assert list(storage.walk(f"{root}/no")) == []
    assert storage.delete(f"{root}/no") is False
    assert code_of(storage.rename, f"{root}/no", f"{root}/x") == "FS8003"


def test_a_file_is_no_folder(there):
    storage, root = there
    storage.create(f"{root}/f", b"x")
    assert storage.status(f"{root}/f/below") is None
    assert code_of(storage.list, f"{root}/f") == "FS8003"
    assert storage.delete(f"{root}/f/below") is False
    storage.mkdirs(f"{root}/d")
    assert code_of(storage.rename, f"{root}/d", f"{root}/f/d") == "FS8003"


def test_list_is_sorted_and_direct(there):
    storage, root = there
    for name in ("b/deep", "a", "c"):
        storage.create(f"{root}/{name}", b"xy")
    found = storage.list(root)
    assert [(each.path, each.is_dir, each.length) for each in found] == [
        (f"{root}/a", False, 2),
        (f"{root}/b", True, 0),
        (f"{root}/c", False, 2),
    ]
    storage.mkdirs(f"{root}/none")
    assert storage.list(f"{root}/none") == []


def test_walk_gives_files_sorted_by_their_whole_path(there):
    storage, root = there
    names = ["a-b/x", "a/y", "a/c/z", "a.txt", "b"]
    for name in names:
        storage.create(f"{root}/{name}", name.encode())
    storage.mkdirs(f"{root}/nothing/in/it")
    assert [file.path for file in storage.walk(root)] == sorted(f"{root}/{name}" for name in names)


def test_rename_moves_a_folder_whole(there):
    storage, root = there
    storage.create(f"{root}/from/x/1", b"one")
    storage.create(f"{root}/from/2", b"two")
    storage.mkdirs(f"{root}/to")
    storage.rename(f"{root}/from", f"{root}/to/dt=1")
    assert storage.status(f"{root}/from") is None
    assert [file.path for file in storage.walk(f"{root}/to")] == [f"{root}/to/dt=1/2", f"{root}/to/dt=1/x/1"]


@pytest.mark.parametrize("target", ["empty folder", "full folder", "file"])
@pytest.mark.parametrize("source", ["folder", "file"])
def test_rename_never_touches_a_target_that_is_there(there, source, target):
    storage, root = there
    storage.create(f"{root}/from/f" if source == "folder" else f"{root}/from", b"new")
    if target == "file":
        storage.create(f"{root}/to", b"old")
    elif target == "full folder":
        storage.create(f"{root}/to/f", b"old")
    else:
        storage.mkdirs(f"{root}/to")
    before = [(file.path, storage.read(file.path)) for file in storage.walk(root)]
    assert code_of(storage.rename, f"{root}/from", f"{root}/to") == "FS8004"
    assert [(file.path, storage.read(file.path)) for file in storage.walk(root)] == before
    assert storage.status(f"{root}/from") is not None


def test_rename_makes_no_parents(there):
    storage, root = there
    storage.create(f"{root}/from", b"x")
    assert code_of(storage.rename, f"{root}/from", f"{root}/no/to") == "FS8003"
    assert storage.read(f"{root}/from") == b"x"


def test_rename_into_itself_is_refused(there):
    storage, root = there
    storage.mkdirs(f"{root}/d/x")
    assert code_of(storage.rename, f"{root}/d", f"{root}/d/x/y") == "FS8002"
    assert code_of(storage.rename, f"{root}/d", f"{root}/d") == "FS8004"


def _rename(uri: str, barrier, results, number: int) -> None:
    storage, root = locate(uri)
    barrier.wait(60)
    try:
        storage.rename(f"{root}/from{number}", f"{root}/to")
    except StorageError as error:
        results.put((number, error.code))
    else:
        results.put((number, "won"))


def test_of_two_processes_that_rename_to_one_target_one_wins(root_uri, there):
    storage, root = there
    for number in range(2):
        storage.mkdirs(f"{root}/from{number}")  # empty: plain POSIX rename would replace an empty folder
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    movers = [context.Process(target=_rename, args=(root_uri, barrier, results, number)) for number in range(2)]
    for mover in movers:
        mover.start()
    outcome = dict(results.get(timeout=120) for _ in movers)
    for mover in movers:
        mover.join(60)
    assert sorted(outcome.values()) == ["FS8004", "won"]
    assert len(storage.list(root)) == 2


def test_mkdirs_twice_and_over_a_file(there):
    storage, root = there
    storage.mkdirs(f"{root}/a/b")
    storage.mkdirs(f"{root}/a/b")
    assert storage.status(f"{root}/a/b").is_dir
    storage.create(f"{root}/f", b"x")
    assert code_of(storage.mkdirs, f"{root}/f") == "FS8004"
    assert code_of(storage.mkdirs, f"{root}/f/x") == "FS8003"


def test_delete_removes_all_below(there):
    storage, root = there
    storage.create(f"{root}/d/x/1", b"1")
    storage.create(f"{root}/d/2", b"2")
    assert storage.delete(f"{root}/d") is True
    assert storage.status(f"{root}/d") is None
    storage.create(f"{root}/f", b"2")
    assert storage.delete(f"{root}/f") is True
    assert storage.list(root) == []


@pytest.mark.parametrize("name", NAMES)
def test_names_come_back_as_they_went(there, name):
    storage, root = there
    storage.create(f"{root}/in/{name}/{name}", name.encode())
    storage.mkdirs(f"{root}/out")
    storage.rename(f"{root}/in/{name}", f"{root}/out/{name}")
    assert [file.path for file in storage.walk(root)] == [f"{root}/out/{name}/{name}"]
    assert storage.read(f"{root}/out/{name}/{name}") == name.encode()
    assert storage.status(f"{root}/out/{name}").name == name
    assert storage.delete(f"{root}/out/{name}") is True


@pytest.mark.parametrize("path", ["relative", "", "/a/../b"])
def test_paths_that_could_mean_another_place_are_refused(there, path):
    storage, _ = there
    with pytest.raises(ValueError, match="absolute"):
        storage.delete(path)
    with pytest.raises(ValueError, match="root"):
        storage.delete("/")


def test_modified_is_the_time_of_the_last_write(there):
    storage, root = there
    first = storage.create(f"{root}/1", b"").modified_ms
    second = storage.create(f"{root}/2", b"").modified_ms
    assert first <= second
    assert first > 1_500_000_000_000, "milliseconds since the epoch"


def test_close_twice_and_use_again(there):
    storage, root = there
    storage.create(f"{root}/f", b"x")
    storage.close()
    storage.close()
    assert storage.read(f"{root}/f") == b"x"


def test_local_links_to_nothing_are_listed(tmp_path):
    storage, root = locate(f"file://{tmp_path}")
    Path(root, "link").symlink_to(Path(root, "gone"))
    assert [(each.name, each.is_dir, each.length) for each in storage.list(root)] == [("link", False, 0)]
    assert code_of(storage.read, f"{root}/link") == "FS8003"
    assert storage.delete(f"{root}/link") is True
    assert storage.list(root) == []


def test_local_links_are_removed_and_not_followed_by_delete(tmp_path):
    storage, root = locate(f"file://{tmp_path}")
    storage.create(f"{root}/kept/f", b"x")
    Path(root, "d").mkdir()
    Path(root, "d", "link").symlink_to(Path(root, "kept"))
    assert storage.delete(f"{root}/d") is True
    assert storage.read(f"{root}/kept/f") == b"x"


@pytest.mark.parametrize(
    "uri", ["s3a://bucket/x", "/plain/path", "hdfs2://nn/x", "file://otherhost/x", "file:relative"]
)
def test_other_places_are_refused_with_a_code(uri):
    assert code_of(locate, uri) == "FS8005"


FORKING = """
import os, sys
from firesteel.pipelines.storage.open import close_all, locate

storage, path = locate(sys.argv[1])
before = storage.scan([path])
child = os.fork()
if child == 0:
    storage, path = locate(sys.argv[1])
    same = storage.scan([path]) == before
    close_all()
    sys.exit(0 if same else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_lists_by_itself_and_ends(there, root_uri):
    """pyspark forks to start Java: a child that waits for its parent's threads waits for ever."""
    storage, root = there
    storage.create(f"{root}/a/b", b"x")
    done = subprocess.run(
        [sys.executable, "-c", FORKING, root_uri], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
