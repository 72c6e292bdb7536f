"""Output that no reader, no locale and no folder breaks: real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from firesteel.jobs.utf8 import use_utf8_locale
from support.specs import EXAMPLE, example_with

FIRESTEEL = [sys.executable, "-m", "firesteel.jobs.cli.main"]
ASCII = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def call(*words: str, cwd=None, stdout=subprocess.PIPE, **environ: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **environ}
    return subprocess.run(
        [*FIRESTEEL, *words],
        cwd=cwd,
        env=environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(("words", "code"), [(("schema",), 0), (("nothing-of-that-name",), 2)])
def test_a_reader_that_has_left_changes_no_exit_code(words, code, unbuffered):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = call(*words, stdout=pipe, PYTHONUNBUFFERED=unbuffered)
        with subprocess.Popen([*FIRESTEEL, *words], stdout=pipe, stderr=pipe) as deaf:
            assert deaf.wait() == code
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_a_full_disk_is_an_error_with_a_code():
    with open("/dev/full", "w") as full:
        done = call("schema", stdout=full)
    assert (done.returncode, done.stderr.startswith("FS9008 No space left on device.")) == (1, True)


def test_closed_streams_are_no_fault():
    done = subprocess.run(["/bin/sh", "-c", f"{' '.join(FIRESTEEL)} schema >&- 2>&-"], check=False)
    assert done.returncode == 0


def test_an_ascii_locale_reads_and_prints_any_name(tmp_path):
    folder = tmp_path / "Zoë"
    example_with(folder, {}).rename(folder / "vorhersage-für-zoë.yaml")
    words = ("explain", "vorhersage-für-zoë.yaml", "--param", f"root=file://{folder}/dätä")
    here, there = call(*words, cwd=folder), call(*words, cwd=folder, **ASCII)
    assert here.returncode == 0, here.stderr
    assert (there.returncode, there.stdout, there.stderr) == (0, here.stdout, here.stderr)
    assert f"{folder}/dätä/flights" in there.stdout
    as_json = call(*words, "--json", cwd=folder, **ASCII)
    assert json.loads(as_json.stdout)["pipeline"] == "flight_delay_scores"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"LC_CTYPE": "C.UTF-8", "PYTHONUTF8": "1"}),
        ({"LANG": "C"}, {"LANG": "C", "LC_CTYPE": "C.UTF-8", "PYTHONUTF8": "1"}),
        ({"LC_ALL": "POSIX", "PYTHONUTF8": "0"}, {"LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"}),
        ({"LC_ALL": "", "LANG": "de_DE.UTF-8"}, {"LC_ALL": "", "LANG": "de_DE.UTF-8"}),
        ({"LC_CTYPE": "C.UTF-8"}, {"LC_CTYPE": "C.UTF-8"}),
    ],
)
def test_only_a_locale_that_means_ascii_is_replaced(before, after):
    use_utf8_locale(before)
    assert before == after


@pytest.mark.parametrize("words", [("validate", str(EXAMPLE / "pipeline.yaml")), ("report",), ("init",), ("pack",)])
def test_a_working_directory_that_is_gone_is_named(tmp_path, words):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"cd {gone} && rmdir {gone} && exec {' '.join([*FIRESTEEL, *words])}"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("FS9008 the working directory cannot be used")


def test_a_process_without_a_home_or_a_user_name_works(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key not in {"HOME", "USER", "LOGNAME"}}
    words = [*FIRESTEEL, "status", str(EXAMPLE / "pipeline.yaml"), "--param", f"root=file://{tmp_path}"]
    done = subprocess.run(
        words, env={**environment, "TMPDIR": "/nowhere"}, capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stdout) == (0, "flight_delay_scores: no attempts yet.\n"), done.stderr
