"""Marks of finished tasks: what is read is what was written, cut ones say nothing, and what is left covers the rest."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firesteel.udfs.backends.base import Choice
from firesteel.udfs.dead_letter import DeadLetter
from firesteel.udfs.direct import done as module
from firesteel.udfs.direct.done import CompletedTask, drop_overlapping, read_mark, write_mark
from firesteel.udfs.direct.job import pack
from firesteel.udfs.direct.spec import Split, TaskResult, WrittenFile
from firesteel.udfs.report import TaskReport

END = 1 << 62


def task(dead_letters: list[DeadLetter] = [], choice: Choice | None = None) -> CompletedTask:  # noqa: B006 - never changed
    report = TaskReport(3, 7, 100, 98, 2, 64, 1, {"model": 0.5}, dead_letters, {"pyfunc": 100}, choice)
    files = [WrittenFile("_direct/x/dt=2024-01-01/part-0.parquet", "dt=2024-01-01/part-0.parquet", 98, 1234)]
    return CompletedTask((Split("dt=2024-01-01/ü.parquet", 0, END),), TaskResult(report, files, 110, 100))


def test_a_mark_is_read_as_it_was_written():
    row = (("id", 1), ("a", 2.5), ("b", None), ("list", [["k", {"x": 1}]]))
    letter = DeadLetter(row, "ValueError", "ü", (("id", "bigint"), ("list", "map<string,struct<x:int>>")))
    done = task([letter], Choice("onnx", "why", 64, 1e-9))
    assert read_mark(write_mark(done)) == done


@given(st.data())
def test_a_cut_or_changed_mark_never_raises(data):
    text = write_mark(task())
    cut = data.draw(st.integers(0, len(text) - 1))
    assert read_mark(text[:cut]) is None
    at, byte = data.draw(st.integers(0, len(text) - 1)), data.draw(st.integers(0, 255))
    read_mark(text[:at] + bytes([byte]) + text[at + 1 :])


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"{}", b'{"made_by": "0"}', b"\xff"])
def test_what_is_no_mark_says_nothing(text):
    assert read_mark(text) is None


def test_another_versions_mark_says_nothing(monkeypatch):
    text = write_mark(task())
    monkeypatch.setattr(module, "VERSION", "99.0")
    assert read_mark(text) is None


def at(path: str, start: int, stop: int) -> CompletedTask:
    return CompletedTask((Split(path, start, stop),), TaskResult(TaskReport(0, 0)))


def test_of_tasks_that_read_the_same_bytes_one_counts():
    first, again, half, other = at("a", 0, END), at("a", 0, END), at("a", 50, 100), at("b", 0, 10)
    touching = at("b", 10, END)
    assert drop_overlapping([first, again, half, other, touching]) == [first, other, touching]


@given(st.data())
def test_done_and_left_cover_each_byte_once(data):
    files = data.draw(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 50 << 20), min_size=1))
    listed = list(files.items())
    slots = st.integers(1, 9)
    most = st.sampled_from([4 << 20, 16 << 20, 128 << 20])
    before = [split for tasks in pack(listed, data.draw(slots), data.draw(most)) for split in tasks]
    done = [split for split in before if data.draw(st.booleans())]
    left = [split for tasks in pack(listed, data.draw(slots), data.draw(most), done) for split in tasks]
    for path, length in listed:
        pieces = sorted((split.start, split.stop) for split in [*done, *left] if split.path == path)
        assert pieces[0][0] == 0
        assert pieces[-1][1] == END
        assert all(one[1] == two[0] for one, two in itertools.pairwise(pieces)), (path, length, pieces)
