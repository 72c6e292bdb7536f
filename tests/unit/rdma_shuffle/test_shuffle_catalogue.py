"""Map outputs on disk: taken over whole or not at all, recovered again after any kill."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firesteel.rdma_shuffle.storage.catalogue import SERVICE, Catalogue
from firesteel.rdma_shuffle.storage.journal import Journal, records
from firesteel.rdma_shuffle.wire.blocks import FileExtent, Found, Missing, Piece, Range, Table
from firesteel.rdma_shuffle.wire.fault import Reason, ShuffleFault


def handed_over(
    folder: Path, blocks: list[bytes], name: str = "shuffle_0_1_0", app: str = "app"
) -> tuple[str, str, Table]:
    data, index = folder / app / f"{name}.data", folder / app / f"{name}.index"
    data.write_bytes(b"".join(blocks))
    index.write_bytes(b"index")
    return str(data), str(index), Table.of([(len(block), 7 if block else 0) for block in blocks])


def reopened(catalogue: Catalogue, folder: Path) -> tuple[Catalogue, tuple[int, int]]:
    catalogue.close()
    again = Catalogue((folder,), "app")
    return again, again.recover()


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    return Catalogue((tmp_path,), "app")


def test_an_output_is_taken_over_and_located(catalogue: Catalogue, tmp_path: Path) -> None:
    data, index, table = handed_over(tmp_path, [b"abc", b"", b"defgh"])
    catalogue.register(4, 9, data, index, table)
    assert not Path(data).exists()
    assert not Path(index).exists()
    found = catalogue.locate(Range(4, 9, 1, 3))
    assert isinstance(found, Found)
    assert found.table == table.cut(1, 3)
    (extent,) = found.extents
    assert isinstance(extent, FileExtent)
    assert Path(extent.path).read_bytes()[extent.offset :][: extent.length] == b"defgh"
    assert catalogue.locate(Range(4, 9, 1, 2)) == Found(table.cut(1, 2))


@pytest.mark.parametrize("asked", [Range(4, 8, 0, 1), Range(3, 9, 0, 1), Range(4, 9, 0, 4), Range(4, 9, 9, 10)])
def test_what_is_not_there_is_a_reason(catalogue: Catalogue, tmp_path: Path, asked: Range) -> None:
    catalogue.register(4, 9, *handed_over(tmp_path, [b"abc", b"", b"defgh"]))
    missing = catalogue.locate(asked)
    assert isinstance(missing, Missing)
    assert missing.reason is Reason.NOT_HERE


def test_an_output_without_bytes_needs_no_file(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.register(1, 1, "", "", Table.of([(0, 0)] * 3))
    assert catalogue.locate(Range(1, 1, 0, 3)) == Found(Table.of([(0, 0)] * 3))
    again, recovered = reopened(catalogue, tmp_path)
    assert recovered == (1, 0)
    assert again.locate(Range(1, 1, 0, 3)) == Found(Table.of([(0, 0)] * 3))


def test_the_same_registration_again_is_taken_and_another_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    for _ in range(2):
        catalogue.register(0, 1, *handed_over(tmp_path, [b"abc"]))
    assert catalogue.size == 3
    assert not list((tmp_path / "app").glob("*.data"))
    with pytest.raises(ShuffleFault, match="FS9107"):
        catalogue.register(0, 1, *handed_over(tmp_path, [b"abcd"]))
    assert (tmp_path / "app" / "shuffle_0_1_0.data").exists(), "a refused file stays the client's"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("{folder}/app/.service/journal", "FS9107"),
        ("{folder}/app/sub/x.data", "FS9107"),
        ("{folder}/other/x.data", "FS9107"),
        ("{folder}/app/../other/x.data", "FS9107"),
        ("{folder}/app/link", "FS9107"),
        ("{folder}/app/fifo", "FS9107"),
        ("{folder}/app", "FS9107"),
        ("{folder}/app/none", "FS9107"),
        ("/etc/passwd", "FS9107"),
        ("x.data", "FS9107"),
        ("{folder}/app/short", "FS9104"),
        ("", "FS9107"),
    ],
)
def test_only_whole_regular_files_of_the_application_are_taken(
    catalogue: Catalogue, tmp_path: Path, path: str, code: str
) -> None:
    for folder in (tmp_path / "other", tmp_path / "app" / "sub"):
        folder.mkdir()
        (folder / "x.data").write_bytes(b"abc")
    (tmp_path / "app" / "link").symlink_to(tmp_path / "other" / "x.data")
    (tmp_path / "app" / "short").write_bytes(b"ab")
    os.mkfifo(tmp_path / "app" / "fifo")
    with pytest.raises(ShuffleFault, match=code):
        catalogue.register(0, 1, path.format(folder=tmp_path), "", Table.of([(3, 7)]))
    assert len(catalogue) == 0
    assert (tmp_path / "other" / "x.data").read_bytes() == b"abc"


def test_lengths_whose_sum_is_beyond_any_file_are_refused(catalogue: Catalogue) -> None:
    with pytest.raises(ShuffleFault, match="FS9104"):
        catalogue.register(0, 1, "", "", Table.of([(2**64 - 1, 0)] * 3))


def test_a_disk_limit_leaves_the_file_to_the_client(catalogue: Catalogue, tmp_path: Path) -> None:
    data, index, table = handed_over(tmp_path, [b"abc"])
    with pytest.raises(ShuffleFault, match="FS9105"):
        catalogue.register(0, 1, data, index, table, bytes_left=2)
    assert Path(data).exists()
    catalogue.register(0, 1, data, index, table, bytes_left=3)
    assert catalogue.size == 3


def test_a_restart_adopts_what_is_whole_and_deletes_the_rest(catalogue: Catalogue, tmp_path: Path) -> None:
    for number in range(4):
        catalogue.register(0, number, *handed_over(tmp_path, [b"abc", b"de"], f"m{number}"))
    catalogue.register(1, 0, *handed_over(tmp_path, [b"gone"]))
    catalogue.remove(1)
    outputs = tmp_path / "app" / SERVICE / "outputs"
    (outputs / "0" / "1").unlink()
    (outputs / "0" / "2").write_bytes(b"shor")
    (outputs / "7").mkdir()
    (outputs / "7" / "7").write_bytes(b"nobody's")
    handed_over(tmp_path, [b"never registered"], "left")
    (catalogue.spool / "5").write_bytes(b"fetched")
    again, recovered = reopened(catalogue, tmp_path)
    assert recovered == (2, 2)
    assert {str(path.relative_to(outputs)) for path in outputs.rglob("*") if path.is_file()} == {"0/0", "0/3"}
    assert {path.name for path in (tmp_path / "app").iterdir()} == {SERVICE}
    assert not list(again.spool.iterdir())
    assert again.size == 10
    assert isinstance(again.locate(Range(0, 3, 0, 2)), Found)
    assert isinstance(again.locate(Range(1, 0, 0, 1)), Missing)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=50), max_size=6), st.data())
def test_a_journal_cut_or_damaged_anywhere_keeps_its_whole_beginning(tmp_path_factory, bodies, data) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    journal = Journal(path)
    ends = [0]
    for body in bodies:
        journal.append(body)
        ends.append(journal.size)
    journal.close()
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = sum(end <= cut for end in ends) - 1
    assert list(records(path)) == bodies[:kept]
    if whole:
        at = data.draw(st.integers(0, len(whole) - 1))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << data.draw(st.integers(0, 7)))]) + whole[at + 1 :])
        kept = sum(end <= at for end in ends) - 1
        assert list(records(path))[:kept] == bodies[:kept]
        assert len(list(records(path))) <= len(bodies)


def test_the_journal_does_not_grow_with_shuffles_that_are_gone(
    catalogue: Catalogue, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("firesteel.rdma_shuffle.storage.catalogue._COMPACT_BYTES", 4096)
    catalogue.register(999, 0, *handed_over(tmp_path, [b"kept"]))
    sizes = []
    for shuffle in range(200):
        catalogue.register(shuffle, 0, "", "", Table.of([(0, 0)] * 100))
        catalogue.remove(shuffle)
        sizes.append((tmp_path / "app" / SERVICE / "journal").stat().st_size)
    assert max(sizes) < 16_384
    again, recovered = reopened(catalogue, tmp_path)
    assert recovered == (1, 0)
    assert isinstance(again.locate(Range(999, 0, 0, 1)), Found)


def test_readers_of_a_removed_output_go_on(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.register(0, 1, *handed_over(tmp_path, [b"abc"]))
    extent = catalogue.piece(Piece(Range(0, 1, 0, 1), 1, 2))
    assert extent
    with Path(extent.path).open("rb") as file:
        catalogue.remove(0)
        assert os.pread(file.fileno(), extent.length, extent.offset) == b"bc"
    assert catalogue.size == 0


@pytest.mark.parametrize(("skip", "length"), [(0, 4), (3, 1), (2**63, 2**63)])
def test_a_piece_outside_its_range_is_malformed(catalogue: Catalogue, tmp_path: Path, skip: int, length: int) -> None:
    catalogue.register(0, 1, *handed_over(tmp_path, [b"abc", b"secret of another reduce"]))
    with pytest.raises(ShuffleFault, match="FS9108"):
        catalogue.piece(Piece(Range(0, 1, 0, 1), skip, length))


def test_destroy_leaves_nothing(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.register(0, 1, *handed_over(tmp_path, [b"abc"]))
    catalogue.destroy()
    assert not list(tmp_path.iterdir())


def test_outputs_lie_on_the_file_system_of_their_folder(tmp_path: Path) -> None:
    folders = (tmp_path / "one", tmp_path / "two")
    catalogue = Catalogue(folders, "app")
    catalogue.register(0, 1, *handed_over(folders[1], [b"abc"]))
    found = catalogue.locate(Range(0, 1, 0, 1))
    assert isinstance(found, Found)
    assert isinstance(found.extents[0], FileExtent)
    assert Path(found.extents[0].path).is_relative_to(folders[1])
    catalogue.close()
    again = Catalogue(folders, "app")
    assert again.recover() == (1, 0)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_blocks_are_located_as_they_were_registered(tmp_path_factory, data) -> None:
    """Empty blocks are not stored. All ranges are the same before and after a restart."""
    blocks = data.draw(st.lists(st.sampled_from([b"", b"", b"", b"a", b"bc"]), min_size=1, max_size=12))
    folder = tmp_path_factory.mktemp("blocks")
    catalogue = Catalogue((folder,), "app")
    path, index, table = handed_over(folder, blocks)
    catalogue.register(0, 1, path if any(blocks) else "", index, table)
    again, recovered = reopened(catalogue, folder)
    assert recovered == (1, 0)
    assert again.memory == catalogue.memory
    for known in (catalogue, again):
        for first in range(len(blocks)):
            for end in range(first + 1, len(blocks) + 1):
                found = known.locate(Range(0, 1, first, end))
                assert isinstance(found, Found)
                assert found.table == table.cut(first, end)
                expected = b"".join(blocks[first:end])
                (content,) = [Path(each.path).read_bytes()[each.offset :][: each.length] for each in found.extents] or [
                    b""
                ]
                assert content == expected
                piece = known.piece(Piece(Range(0, 1, first, end), 0, len(expected)))
                assert (piece.length if piece else 0) == len(expected)
        assert isinstance(known.locate(Range(0, 1, 0, len(blocks) + 1)), Missing)


def test_empty_blocks_need_no_memory_and_no_journal(catalogue: Catalogue, tmp_path: Path) -> None:
    for map_id in range(6):
        catalogue.register(0, map_id, "", "", Table(bytes(12 * 1_000_000)))
    catalogue.register(1, 0, *handed_over(tmp_path, [b""] * 500_000 + [b"abc"] + [b""] * 499_999))
    assert catalogue.memory < 10_000
    assert (tmp_path / "app" / SERVICE / "journal").stat().st_size < 1_000
    found = catalogue.locate(Range(1, 0, 499_999, 500_002))
    assert isinstance(found, Found)
    assert found.table == Table.of([(0, 0), (3, 7), (0, 0)])


def test_an_application_has_a_limit_of_memory_for_its_outputs(tmp_path: Path) -> None:
    catalogue = Catalogue((tmp_path,), "app", memory_limit=10_000)
    data, index, table = handed_over(tmp_path, [b"a"] * 1000)
    with pytest.raises(ShuffleFault, match="FS9105.*--table-bytes"):
        catalogue.register(0, 1, data, index, table)
    assert Path(data).exists()
    for map_id in range(9):
        catalogue.register(0, map_id, "", "", Table.of([(0, 0)]))
    with pytest.raises(ShuffleFault, match="FS9105"):
        catalogue.register(0, 9, "", "", Table.of([(0, 0)]))
    catalogue.register(0, 8, "", "", Table.of([(0, 0)]))  # a repeated registration needs no more
    catalogue.remove(0)
    assert catalogue.memory == 0
    catalogue.register(1, 0, "", "", Table.of([(0, 0)]))
