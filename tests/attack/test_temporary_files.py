"""Temporary files: no name that another user can plant, and nothing left after a run."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from firesteel.conf.private_folder import private_folder
from firesteel.jobs.cli import demo
from firesteel_airflow.call import Call, NoFiresteel
from firesteel_airflow.driver import start
from support.runs import firesteel


def planted(folder: Path) -> Path:
    """Fill a temporary folder with links in the place of the names that firesteel once used, and return their target."""
    target = folder.parent / "target"
    target.mkdir()
    for name in ("tasks", "demo", "airflow"):
        (folder / f"firesteel-{name}-{os.getuid()}").symlink_to(target, target_is_directory=True)
    return target


def test_a_run_leaves_no_temporary_file_and_follows_no_planted_link(project, tmp_path):
    """One interval is published, and a gate stops the next one."""
    project.pipeline()
    file = next(Path(project.root.removeprefix("file://"), "flights", "dt=2013-06-02").rglob("*.parquet"))
    shutil.copy(file, file.with_name("again.parquet"))  # flight_id is not unique
    folder = tmp_path / "tmp"
    folder.mkdir()
    target = planted(folder)
    before = sorted(folder.rglob("*"))
    java = f"{os.environ['SPARK_SUBMIT_OPTS']} -Djava.io.tmpdir={folder} -XX:-UsePerfData"
    environ = {"TMPDIR": str(folder), "SPARK_LOCAL_DIRS": str(folder), "SPARK_SUBMIT_OPTS": java}
    words = ("run", "--start", "2013-06-01", "--end", "2013-06-02", "--param", f"root={project.root}", "--json")
    done = firesteel(*words, folder=project.folder, environ=environ)
    assert done.returncode == 3, done.stderr
    assert [each["state"] for each in json.loads(done.stdout)["intervals"]] == ["published", "failed"]
    assert sorted(folder.rglob("*")) == before
    assert list(target.iterdir()) == []


def a_link(path: Path) -> None:
    (path.parent / "target").mkdir(mode=0o700)
    path.symlink_to(path.parent / "target")


def a_dangling_link(path: Path) -> None:
    path.symlink_to(path.parent / "target")


def a_folder_of_another_user(path: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, 65534, 65534)


PLANTED = {
    "link": (a_link, "is not a directory"),
    "dangling link": (a_dangling_link, "is not a directory"),
    "file": (lambda path: path.write_text("planted"), "is not a directory"),
    "FIFO": (os.mkfifo, "is not a directory"),
    "folder that all can write to": (lambda path: (path.mkdir(), path.chmod(0o777)), "is open to other users"),
    "folder that the group can read": (lambda path: (path.mkdir(), path.chmod(0o740)), "is open to other users"),
    "folder of another user": (a_folder_of_another_user, "belongs to another user"),
}


@pytest.fixture(params=PLANTED)
def planted_path(request, tmp_path) -> tuple[Path, str]:
    if "another user" in request.param and os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    make, reason = PLANTED[request.param]
    path = tmp_path / "name"
    make(path)
    return path, reason


def test_a_planted_entry_is_no_private_folder(planted_path):
    path, reason = planted_path
    with pytest.raises(PermissionError, match=reason):
        private_folder(path)


def test_a_private_folder_is_made_for_its_user_alone_and_used_again(tmp_path):
    assert private_folder(tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert private_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"


def test_the_demo_does_not_use_a_planted_folder(planted_path, capsys):
    path, reason = planted_path
    assert demo.main(["--folder", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("FS9008")
    assert reason in said


def test_the_airflow_provider_writes_no_log_to_a_planted_folder(planted_path, tmp_path):
    path, reason = planted_path
    with pytest.raises(NoFiresteel, match=reason):
        start(Call("/bin/false", "p.yaml", "2013-06-01", folder=str(tmp_path)), "R", str(path), bound=False)
