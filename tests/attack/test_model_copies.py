"""A copy of a model in the storage is an archive that others may have written: it is compared with the plan, and unpacks nothing else."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from firesteel.jobs.tracking import model_copies
from firesteel.jobs.tracking.model_copies import copies_folder, keep_copies, restore_copy
from firesteel.pipelines.publish.state_store import StateStore
from firesteel.udfs.digest import digest_of
from support.publishing import area_of


@pytest.fixture
def store(tmp_path) -> StateStore:
    return area_of(f"file://{tmp_path}/root")


def _file(name: str, data: bytes = b"x") -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))

    return add


def _special(name: str, kind: bytes, link: str = "") -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        archive.addfile(info)

    return add


def _sparse(archive: tarfile.TarFile) -> None:
    info = tarfile.TarInfo("bomb")
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.size": str(1 << 40)}
    info.pax_headers |= {"GNU.sparse.map": "0,0", "GNU.sparse.name": "bomb"}
    archive.addfile(info)


HOSTILE = {
    "outside": [_file("../outside")],
    "absolute": [_file("/tmp/outside-of-the-model")],
    "link": [_special("a", tarfile.SYMTYPE, "b"), _file("b")],
    "through a link": [_special("a", tarfile.SYMTYPE, ".."), _file("a/outside")],
    "hard link": [_file("b"), _special("a", tarfile.LNKTYPE, "b")],
    "pipe": [_special("a", tarfile.FIFOTYPE)],
    "device": [_special("a", tarfile.CHRTYPE)],
    "sparse": [_sparse],
    "too large": [_file("a", b"x" * 4096)],
    "too many bytes in all": [_file(f"f{number}", b"x" * 512) for number in range(3)],
    "twice": [_file("a"), _file("a")],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_archive_unpacks_only_plain_files_of_the_planned_size(store, tmp_path, kind):
    folder = Path(copies_folder(store), "digest")
    folder.mkdir(parents=True)
    with tarfile.open(folder / "0000.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for add in HOSTILE[kind]:
            add(archive)
    target = tmp_path / "new" / "model"
    target.parent.mkdir()
    assert not restore_copy(store, "digest", target, 1024)
    assert not (tmp_path / "new" / "outside").exists()
    assert not (tmp_path / "outside").exists()
    assert not Path("/tmp/outside-of-the-model").exists()
    unpacked = list(target.rglob("*"))
    assert all(path.is_file() and not path.is_symlink() for path in unpacked)
    assert sum(path.stat().st_size for path in unpacked) <= 1024


def test_a_huge_part_is_not_read(store, tmp_path, monkeypatch):
    monkeypatch.setattr(model_copies, "MAX_FILES", 1)
    monkeypatch.setattr(model_copies, "_PART", 1 << 20)
    folder = Path(copies_folder(store), "digest")
    folder.mkdir(parents=True)
    with (folder / "0000.tar").open("wb") as part:
        part.truncate(1 << 40)  # sparse: it takes no space on the disk
    assert not restore_copy(store, "digest", tmp_path / "model", 1024)


def test_a_kept_copy_has_the_digest_of_the_model(store, tmp_path):
    model = tmp_path / "model"
    (model / "deep" / "er").mkdir(parents=True)
    for path, text in (("MLmodel", "a"), ("deep/er/ä b.bin", "b" * 100_000), ("empty", "")):
        (model / path).write_text(text)
    digest = digest_of(model)
    keep_copies(store, {digest.hex: model})
    assert restore_copy(store, digest.hex, tmp_path / "back", digest.size_bytes)
    assert digest_of(tmp_path / "back") == digest


@pytest.mark.parametrize("depth", range(3))
def test_a_link_leads_the_deletion_of_old_copies_to_no_other_files(store, tmp_path, depth):
    precious = tmp_path / "precious"
    for number in range(9):
        (precious / "test" / f"x{number}").mkdir(parents=True)
        (precious / f"x{number}").mkdir()
    before = sorted(precious.rglob("*"))
    place = Path(store.base, *("models", "test", "x")[: depth + 1])
    place.parent.mkdir(parents=True)
    place.symlink_to(precious)
    keep_copies(store, {})
    assert sorted(precious.rglob("*")) == before
