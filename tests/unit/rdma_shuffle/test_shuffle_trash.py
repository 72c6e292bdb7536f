"""What is discarded is gone at once, and its bytes by the thread, or by the next life."""

from __future__ import annotations

from pathlib import Path

from firesteel.rdma_shuffle.storage.trash import TRASH, Trash
from support.waiting import wait_for


def test_a_discarded_folder_is_gone_and_then_deleted(tmp_path: Path) -> None:
    trash = Trash((tmp_path,))
    for _ in range(3):  # the same name again and again
        (tmp_path / "app" / "deep").mkdir(parents=True)
        (tmp_path / "app" / "deep" / "file").write_bytes(b"x")
        trash.discard(tmp_path / "app")
        assert not (tmp_path / "app").exists()
    wait_for(lambda: not list((tmp_path / TRASH).iterdir()), "the thread deletes")
    trash.discard(tmp_path / "app")  # is gone already
    trash.close()
    trash.close()


def test_what_an_earlier_life_left_is_deleted(tmp_path: Path) -> None:
    (tmp_path / TRASH / "0").mkdir(parents=True)
    (tmp_path / TRASH / "0" / "file").write_bytes(b"x")
    trash = Trash((tmp_path,))
    assert list((tmp_path / TRASH).iterdir()) == []
    trash.close()
