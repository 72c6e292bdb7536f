"""A packed environment: it runs where it is unpacked, and holds nothing that points back."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
from pathlib import Path

import pytest

from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.submit.environment import pack


@pytest.fixture
def environment(tmp_path) -> Path:
    venv.EnvBuilder(with_pip=False, symlinks=True).create(tmp_path / "made")
    return tmp_path / "made"


def libraries(environment: Path) -> Path:
    return next((environment / "lib").glob("python*")) / "site-packages"


def install(environment: Path, name: str, files: dict[str, str], direct_url: str = "") -> None:
    """What an installer leaves of a distribution."""
    info = libraries(environment) / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    if direct_url:
        (info / "direct_url.json").write_text(direct_url)
    for path, text in files.items():
        target = libraries(environment) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    (info / "RECORD").write_text(
        "".join(f"{path},,\n" for path in (*files, f"{info.name}/METADATA", f"{info.name}/RECORD"))
    )


def names(archive: Path) -> list[str]:
    with tarfile.open(archive) as tar:
        return tar.getnames()


def test_it_runs_where_it_is_unpacked(environment, tmp_path):
    install(environment, "thing", {"thing.py": "VALUE = 7"})
    (environment / "bin" / "tool").write_text(f"#!{environment}/bin/python\n")
    packed = pack(tmp_path / "e.tar.gz", environment)
    elsewhere = tmp_path / "elsewhere"
    with tarfile.open(tmp_path / "e.tar.gz") as tar:
        tar.extractall(elsewhere, filter="fully_trusted")
    (environment / "pyvenv.cfg").unlink()  # nothing of the first place is needed
    code = "import sys, thing; print(sys.prefix, thing.VALUE)"
    done = subprocess.run([elsewhere / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(elsewhere), "7"]
    assert "bin/tool" not in names(tmp_path / "e.tar.gz")
    assert packed.files == len(names(tmp_path / "e.tar.gz"))
    assert Path(packed.interpreter).samefile(sys.executable)


def test_what_is_not_wanted_and_what_spark_brings_stays_out(environment, tmp_path):
    install(environment, "big.thing", {"big/a.py": "", "big/b.py": ""})
    install(
        environment, "pyspark", {"pyspark/sql.py": "", "pyspark/jars/spark.jar": "", "pyspark/bin/spark-submit": ""}
    )
    pack(tmp_path / "e.tar.gz", environment, without=["Big_Thing"])
    kept = {name.partition("site-packages/")[2] for name in names(tmp_path / "e.tar.gz")}
    assert "pyspark/sql.py" in kept
    assert not [name for name in kept if name.startswith(("big", "pyspark/jars", "pyspark/bin"))]


def test_a_checkout_of_ours_is_packed_as_what_it_imports(environment, tmp_path):
    link = '{"url": "file:///somewhere", "dir_info": {"editable": true}}'
    install(environment, "firesteel", {"_firesteel.pth": "/somewhere/src\n"}, link)
    pack(tmp_path / "e.tar.gz", environment)
    with tarfile.open(tmp_path / "e.tar.gz") as tar:
        tar.extractall(tmp_path / "e", filter="fully_trusted")
    kept = {name.partition("site-packages/")[2] for name in names(tmp_path / "e.tar.gz")}
    assert "_firesteel.pth" not in kept
    assert {
        "firesteel/__init__.py",
        "firesteel/conf/errors.py",
        "firesteel/jobs/run_plan.py",
        "firesteel/udfs/score.py",
    } <= kept
    code = "import sys; from firesteel import ModelError; import firesteel.rdma_shuffle; print(sys.modules[ModelError.__module__].__file__)"
    done = subprocess.run([tmp_path / "e/bin/python", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(tmp_path / "e"))


def test_what_cannot_be_packed_is_said(environment, tmp_path):
    with pytest.raises(RuntimeFault, match="FS9032 nothing is not installed"):
        pack(tmp_path / "e.tar.gz", environment, without=["nothing"])
    install(
        environment, "mine", {"mine.pth": "/home\n"}, '{"url": "file:///home/mine", "dir_info": {"editable": true}}'
    )
    with pytest.raises(RuntimeFault, match="mine is an editable install of file:///home/mine"):
        pack(tmp_path / "e.tar.gz", environment)
    (environment / "pyvenv.cfg").unlink()
    with pytest.raises(RuntimeFault, match="is not a virtual environment"):
        pack(tmp_path / "e.tar.gz", environment)
    assert list(tmp_path.iterdir()) == [environment]
