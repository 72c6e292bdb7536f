"""A model's digest is that of the bytes that are checked, sent and loaded: no two models have one digest, and nothing else is read."""

from __future__ import annotations

import hashlib
import os
import socket
import tempfile
import zipfile
from pathlib import Path

import pyspark
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from firesteel.conf.errors import ModelError
from firesteel.jobs.tracking.registry import fetch_pinned, resolve_model
from firesteel.udfs import digest as digests
from firesteel.udfs.digest import digest_of, private_copy
from firesteel.udfs.model import distribute_model
from support.models import save

Tree = dict[str, bytes]
_PART = st.text(st.sampled_from("ab.\n é"), min_size=1, max_size=3).filter(lambda part: part.strip(".") != "")
_TREE = st.dictionaries(st.lists(_PART, min_size=1, max_size=3).map("/".join), st.binary(max_size=3), max_size=4)


def written(folder: Path, tree: Tree) -> str | None:
    """Write a model and return its digest, or None if it is refused."""
    for name, content in tree.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    try:
        return digest_of(folder).hex
    except ModelError as error:
        assert error.code == "FS3011"
        return None


def is_tree(tree: Tree) -> bool:
    """No name is both a file and a folder."""
    return not any(other.startswith(f"{name}/") for name in tree for other in tree)


A, B = (hashlib.sha256(content).hexdigest() for content in (b"a", b"b"))


@settings(max_examples=100, derandomize=True)
@given(_TREE, _TREE)
@example({"x": b"a", "y": b"b"}, {f"x {A}\ny": b"b"})
@example({"MLmodel": b"a"}, {"MLmodel": b"a", "registered_model_meta": b"x"})
@example({"MLmodel": b"a"}, {"MLmodel": b"a", "sub/registered_model_meta": b"x"})
@example({"a/b": b""}, {"a b": b""})
@example({"a": b"", "b": b""}, {"a": b""})
def test_two_models_never_have_one_digest(first, second):
    assume(is_tree(first) and is_tree(second))
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        mine, other = written(Path(one), first), written(Path(two), second)
    if None not in (mine, other):
        assert (mine == other) == (first == second)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    home = Path.cwd()
    os.chdir(path.parent)  # the path of a socket has at most 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(home)


KINDS = {
    "a link to a file outside": lambda path: path.symlink_to("/etc/hostname"),
    "a link to a file inside": lambda path: path.symlink_to("MLmodel"),
    "a link to a folder": lambda path: path.symlink_to("/etc"),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a pipe": pipe,
    "a socket": listening,
    "a name of two lines": lambda path: path.with_name("a\nb").touch(),
    "a name with an escape": lambda path: path.with_name("a\x1b[31m").touch(),
    "a name that is no text": lambda path: Path(os.fsdecode(os.fsencode(path) + b"\xff")).touch(),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["x", "sub/x", "model.skops", "registered_model_meta"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_refused_and_not_read(tmp_path, kind, name):
    save("ridge", tmp_path / "m")
    path = tmp_path / "m" / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    KINDS[kind](path)
    with pytest.raises(ModelError, match=r"FS3011 .*cannot be pinned") as caught:
        planned(tmp_path / "m")
    assert str(caught.value).isprintable()


def planned(folder: Path, max_size: int | None = None):
    return resolve_model(
        "m", str(folder), method="predict", trust_formats=("skops",), max_size=max_size, tracking_uri=""
    ).plan


def test_a_large_model_is_refused_before_it_is_read(tmp_path):
    save("ridge", tmp_path / "m")
    plan = planned(tmp_path / "m")
    with (tmp_path / "m" / "weights.bin").open("wb") as file:
        file.truncate(60 << 30)  # sparse: to read it would take a minute
    with pytest.raises(ModelError, match="FS3010"):
        planned(tmp_path / "m", max_size=16 << 30)
    with pytest.raises(ModelError, match=r"FS3011 .*has more bytes"):
        fetch_pinned(plan, "")


def test_a_model_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "MAX_FILES", 10)
    for number in range(11):
        (tmp_path / str(number)).touch()
    with pytest.raises(ModelError, match="FS3011 .*more than 10 files"):
        digest_of(tmp_path)


def test_a_folder_that_cannot_be_listed_is_a_coded_error(tmp_path):
    path = os.fsencode(tmp_path)
    folder = os.open(path, os.O_RDONLY)
    for _ in range(30):  # a path that is longer than the system takes
        os.mkdir("x" * 200, dir_fd=folder)
        folder, above = os.open("x" * 200, os.O_RDONLY, dir_fd=folder), folder
        os.close(above)
    os.close(folder)
    with pytest.raises(ModelError, match="FS3011 .*cannot be listed"):
        digest_of(tmp_path)


def test_the_checked_copy_has_the_digest_while_another_process_writes(tmp_path, monkeypatch):
    """The bytes that are hashed are those of the copy, also if the model is swapped after it was hashed."""
    folder = tmp_path / "m"
    save("ridge", folder)
    sound = digest_of(folder)
    swap_after_reading(monkeypatch, folder / "model.skops")
    with private_copy(folder, None) as (copy, digest):
        assert (folder / "model.skops").read_bytes() == b"swapped"
        assert digest_of(copy) == digest == sound
        assert copy.parent.stat().st_mode & 0o077 == 0
    assert not copy.exists()


def test_executors_get_the_bytes_that_were_checked(tmp_path, monkeypatch):
    folder = tmp_path / "m"
    save("ridge", folder)
    digest = digest_of(folder).hex
    sent = []

    class Context:
        listArchives = ()  # noqa: N815 - Spark's name

        def addArchive(self, text: str) -> None:  # noqa: N802 - Spark's name
            sent.append(text.rpartition("#")[0])

    class Session:
        sparkContext = Context()  # noqa: N815 - Spark's name

    (tmp_path / "spark").mkdir()
    monkeypatch.setattr(pyspark.SparkFiles, "getRootDirectory", lambda: str(tmp_path / "spark"))
    with monkeypatch.context() as patch:
        swap_after_reading(patch, folder / "model.skops")
        distribute_model(Session(), folder, digest)
    with zipfile.ZipFile(sent[0]) as archive:
        archive.extractall(tmp_path / "executor")
    assert digest_of(tmp_path / "executor").hex == digest
    with pytest.raises(ModelError, match="FS3011"):
        distribute_model(Session(), folder, digest)
    assert len(sent) == 1


def swap_after_reading(patch: pytest.MonkeyPatch, path: Path) -> None:
    """Change a file at the moment when it has been read, as an attacker would try."""
    read = digests._read

    def reading(folder: Path, name: str, *more):
        found = read(folder, name, *more)
        if name == path.name:
            path.write_bytes(b"swapped")
        return found

    patch.setattr(digests, "_read", reading)
